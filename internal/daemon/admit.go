package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/watch"
)

// onISO handles what the watch says about the drop directory.
func (d *Daemon) onISO(ctx context.Context, e watch.Event) {
	switch e.Kind {
	case watch.Complete:
		d.admit(ctx, e.Path)
	case watch.Refused:
		d.reject(ctx, e.Path, e.Path+" "+e.Reason)
	case watch.Waiting:
		d.log.Info("waiting for a file to be complete", "file", e.Path, "reason", e.Reason)
	case watch.Trouble:
		d.log.Error("cannot watch for ISOs", "directory", e.Path, "error", e.Reason)
	case watch.Recovered:
		d.log.Info("watching for ISOs again", "directory", e.Path)
	case watch.Gone, watch.Changed:
	}
}

// admit identifies a dropped file and moves it into the library or, with the
// reason, to rejected.
func (d *Daemon) admit(ctx context.Context, path string) {
	info, err := d.identify(ctx, path)
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, fs.ErrNotExist):
		return // found again at the next start; or the operator took it away
	case errors.Is(err, iso.ErrChanged):
		// The watch tells again when it is complete; moving it away would break
		// the copy.
		d.log.Info("a file changed while it was read; it is looked at again when it is complete", "file", path)
		return
	case fault.ClassOf(err) == fault.Input, fault.ClassOf(err) == fault.NotPermitted:
		d.reject(ctx, path, err.Error())
		return
	default:
		d.log.Error("cannot admit a file; it is tried again at the next rescan", "file", path, "error", err)
		return
	}
	if err := d.accept(ctx, info, path, filepath.Base(path)); err != nil {
		d.log.Error("cannot take a file into the library; it is tried again at the next rescan", "file", path, "error", err)
	}
}

// accept takes an identified file, which people call name, into the library, and
// sees to its build.
func (d *Daemon) accept(ctx context.Context, info iso.Info, path, name string) error {
	var err error
	if d.library.has(info.SHA256) {
		d.log.Info("this ISO is known; the second copy is removed", "file", path, "version", info.Version, "build", info.Build)
		err = os.Remove(path)
	} else {
		info.Path = name
		err = d.library.add(ctx, entry{Info: info, Added: time.Now().UTC().Truncate(time.Second)}, path)
	}
	if err != nil {
		return err
	}
	d.log.Info("accepted", "file", name, "product", info.Product, "version", info.Version, "update", info.Update, "build", info.Build, "vendor", info.Vendor)
	d.retryFailed(info.SHA256)
	d.reconcile()
	return nil
}

func (d *Daemon) identify(ctx context.Context, path string) (iso.Info, error) {
	img, err := iso.Open(path)
	if err != nil {
		return iso.Info{}, err
	}
	defer img.Close()
	info, warnings, err := iso.Identify(ctx, img)
	if err == nil {
		info.SHA256, err = img.SHA256(ctx, nil)
	}
	// What was read of a file that changed meanwhile says nothing, good or bad.
	if changed := img.Unchanged(); changed != nil {
		return info, changed
	}
	for _, w := range warnings {
		d.log.Warn("the ISO's own metadata is not consistent", "file", path, "warning", w)
	}
	return info, err
}

// maxRejected is how much of a name is kept, in bytes: file systems take 255, and
// there must be room for a number, the ending and a temporary name.
const maxRejected = 200

// reject moves a file out of the way and writes the reason beside it.
func (d *Daemon) reject(ctx context.Context, path, reason string) {
	name := filepath.Base(path)
	if len(name) > maxRejected {
		name = strings.TrimLeft(name[len(name)-maxRejected:], ".") // hidden files are ours
	}
	to := free(filepath.Join(d.rejected(), name))
	text := readable(fmt.Sprintf("%s\n\nRejected at %s. The file is untouched: %s\n", reason, time.Now().UTC().Format(time.RFC3339), to))
	err := durable.WriteFile(to+".reason", []byte(text), 0o640)
	if err == nil {
		err = move(ctx, path, to)
	}
	if err != nil {
		d.log.Error("cannot move a rejected file away", "file", path, "reason", reason, "error", err)
		return
	}
	d.log.Error("rejected", "file", path, "reason", reason, "moved_to", to)
}

// retryFailed gives the builds of an ISO that was dropped again another try.
func (d *Daemon) retryFailed(sum string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.builds {
		if b.Plan.ISO.SHA256 != sum || b.State != build.Failed {
			continue
		}
		d.transition(b, build.Queued)
	}
}

// readable replaces what a terminal would act on: a file's name and what it says
// of itself stand in the text.
func readable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
