package daemon

import (
	"cmp"
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
	"github.com/esxid/esxid/internal/journal"
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
		d.log.Info(fmt.Sprintf("Waiting for %s to be complete: it %s.", e.Path, e.Reason), "file", e.Path, "reason", e.Reason)
	case watch.Trouble, watch.Recovered:
		d.watchTrouble(troubleIncoming, e)
	case watch.Gone, watch.Changed:
	}
}

// moving is how long an ISO may take to be synced and, if incoming is a file system
// of its own, copied.
const moving = time.Hour

// admit identifies a dropped file and moves it into the library or, with the
// reason, to rejected.
func (d *Daemon) admit(ctx context.Context, path string) {
	info, err := d.identify(ctx, path, path, func(int64, int64) { d.mainLife.busy(bookkeeping) })
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, fs.ErrNotExist):
		return // found again at the next start; or the operator took it away
	case errors.Is(err, iso.ErrChanged):
		// The watch tells again when it is complete; moving it away would break
		// the copy.
		d.log.Info(path+" changed while it was read; it is looked at again when it is complete.", "file", path)
		return
	case fault.ClassOf(err) == fault.Input, fault.ClassOf(err) == fault.NotPermitted:
		d.reject(ctx, path, err.Error())
		return
	default:
		d.log.Error(fmt.Sprintf("%s cannot be read and is tried again at the next rescan: %v.", path, err), "file", path, "error", err)
		return
	}
	d.mainLife.busy(moving)
	if err := d.accept(ctx, info, path, filepath.Base(path)); err != nil {
		d.checkSpace()
		d.log.Error(fmt.Sprintf("%s cannot be moved into the library and is tried again at the next rescan: %v.", path, err), "file", path, "error", err)
	}
}

// accept takes an identified file, which people call name, into the library, and
// sees to its build.
func (d *Daemon) accept(ctx context.Context, info iso.Info, path, name string) error {
	var err error
	if d.library.has(info.SHA256) {
		d.log.Info(fmt.Sprintf("%s is known already (%s, build %s) and is not kept a second time.", name, info.Version, info.Build),
			"file", name, "version", info.Version, "iso_build", info.Build)
		err = os.Remove(path)
	} else {
		info.Path = name
		err = d.library.add(ctx, entry{Info: info, Added: d.addedNow()}, path)
	}
	if err != nil {
		return err
	}
	d.log.Info(fmt.Sprintf("Accepted %s: %s %s, build %s.", name, info.Product, info.Version, info.Build), journal.Accepted.Attr(),
		"file", name, "product", info.Product, "version", info.Version, "update", info.Update, "iso_build", info.Build, "vendor", info.Vendor, "iso", info.SHA256)
	d.retryFailed(info.SHA256)
	d.reconcile()
	return nil
}

// addedNow is the time that is noted for an ISO. Among ISOs of one build number the
// one dropped last counts, so a clock that was set back must not make it older than
// one that is there.
func (d *Daemon) addedNow() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Second)
	for _, added := range d.added {
		if !now.After(added) {
			now = added.Add(time.Second)
		}
	}
	return now
}

// identify reads an ISO, which people call name.
func (d *Daemon) identify(ctx context.Context, path, name string, progress func(done, total int64)) (iso.Info, error) {
	img, err := iso.Open(path)
	if err != nil {
		return iso.Info{}, err
	}
	defer img.Close()
	info, warnings, err := iso.Identify(ctx, img)
	if err == nil {
		info.SHA256, err = img.SHA256(ctx, progress)
	}
	// What was read of a file that changed meanwhile says nothing, good or bad.
	if changed := img.Unchanged(); changed != nil {
		return info, changed
	}
	for _, w := range warnings {
		d.log.Warn(fmt.Sprintf("What %s says of itself is not consistent: %s.", name, w), "file", name, "warning", w)
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
		d.log.Error(fmt.Sprintf("A rejected file cannot be moved away: %v; it was rejected because %s.", err, reason), "file", path, "reason", reason, "error", err)
		return
	}
	d.log.Error(fmt.Sprintf("Rejected %s: %s. It was moved to %s.", path, reason, to), journal.Rejected.Attr(), "file", path, "reason", reason, "moved_to", to)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastRejected = to
	d.refresh()
	d.reconcileLater() // there may be enough of them now
}

// retryFailed gives the build of an ISO that was dropped again another try. Those it
// had before are kept as they are: nothing asks for them. Of an ISO that was gone it
// is not known yet which one is asked for.
func (d *Daemon) retryFailed(sum string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, b := range d.builds {
		if b.Plan.ISO.SHA256 != sum || b.State != build.Failed || cmp.Or(d.current[sum], id) != id {
			continue
		}
		b.Error = nil
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
