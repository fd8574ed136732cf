package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
)

// library is the directory of admitted ISOs: <sha256>.iso with a record
// <sha256>.json beside each.
type library struct {
	dir string
	// dispose sees to it that a file that has been put aside goes away.
	dispose func(path string) error
}

// entry is the record of an admitted ISO.
type entry struct {
	iso.Info           // Path is the name it was dropped under
	Added    time.Time `json:"added"`
}

func openLibrary(dir string) (*library, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fault.New(fault.CannotWrite, "cannot make the ISO directory: %w", err)
	}
	return &library{dir, os.Remove}, nil
}

func (l *library) isoPath(sum string) string    { return filepath.Join(l.dir, sum+".iso") }
func (l *library) recordPath(sum string) string { return filepath.Join(l.dir, sum+".json") }

// has says whether an ISO is in the library, file and record, and neither is
// known to be damaged.
func (l *library) has(sum string) bool {
	e, err := l.read(sum)
	if err != nil {
		return false
	}
	info, err := os.Stat(l.isoPath(sum))
	return err == nil && info.Size() == e.Size
}

// add records an ISO and moves its file in. The record comes first: a file
// without one would never be looked at again.
func (l *library) add(ctx context.Context, e entry, file string) error {
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(l.recordPath(e.SHA256), append(text, '\n'), 0o640); err != nil {
		return err
	}
	// Whoever copied it has hardly synced it, and may have deleted the original.
	if err := durable.SyncFile(file); err != nil {
		return fmt.Errorf("cannot write %s to the disk: %w", file, err)
	}
	return move(ctx, file, l.isoPath(e.SHA256))
}

// remove deletes an ISO and then its record. The ISO is put aside first, under a name
// that the next start removes if nobody else does.
func (l *library) remove(sum string) error {
	aside := filepath.Join(l.dir, removed+sum)
	err := os.Rename(l.isoPath(sum), aside)
	if err == nil {
		err = l.dispose(aside)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(l.recordPath(sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

var recordForm = regexp.MustCompile(`^[0-9a-f]{64}\.json$`)

// maxEntry bounds the size of a record that is read, in bytes.
const maxEntry = 64 << 10

// all returns the ISOs of the library in no particular order. ISOs that cannot
// be used are returned as errors, by their sum; records without an ISO (an
// admission that was interrupted, an ISO the operator removed) are left out.
func (l *library) all() (entries []entry, damaged map[string]error, err error) {
	names, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the ISO directory: %w", err)
	}
	damaged = map[string]error{}
	for _, n := range names {
		if !recordForm.MatchString(n.Name()) {
			continue
		}
		sum := strings.TrimSuffix(n.Name(), ".json")
		e, err := l.read(sum)
		if err != nil {
			damaged[sum] = err
			continue
		}
		info, err := os.Stat(l.isoPath(sum))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			damaged[sum] = fmt.Errorf("cannot read an ISO of the library: %w", err)
		case info.Size() != e.Size:
			damaged[sum] = fault.New(fault.Input, "%s has %d bytes and had %d: drop the original into incoming again", l.isoPath(sum), info.Size(), e.Size)
		default:
			entries = append(entries, e)
		}
	}
	return entries, damaged, nil
}

func (l *library) read(sum string) (entry, error) {
	path := l.recordPath(sum)
	info, err := os.Stat(path)
	if err != nil {
		return entry{}, fmt.Errorf("cannot read an ISO's record: %w", err)
	}
	if info.Size() > maxEntry {
		return entry{}, fault.New(fault.Input, "%s is damaged: it has %d bytes", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return entry{}, fmt.Errorf("cannot read an ISO's record: %w", err)
	}
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return entry{}, fault.New(fault.Input, "%s is damaged: %w: drop the ISO into incoming again", path, err)
	}
	if e.SHA256 != sum {
		return entry{}, fault.New(fault.Input, "%s is damaged: it is the record of another ISO", path)
	}
	return e, nil
}
