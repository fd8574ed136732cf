package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
)

// This file is the service as others control it; internal/bus puts it on D-Bus.
// Its methods may be called from any goroutine once Ready is closed. "by" is who asks,
// for the log and the record; the rights are checked by the caller.

// ErrNoBuild is the error for a build or a name that does not exist.
var ErrNoBuild = fault.New(fault.Usage, "there is no such build: see esxid list")

// Ready is closed when the service has taken up its work, and may be controlled.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Changed gets a value when Snapshot would return something else. Values that are
// not read in time are one; only one reader gets each.
func (d *Daemon) Changed() <-chan struct{} { return d.changed }

// Snapshot returns a copy of all there is to see.
func (d *Daemon) Snapshot() build.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := build.Snapshot{Line: d.line}
	waiting := map[build.State]int{}
	for _, b := range d.sorted(func(*build.Build) bool { return true }) {
		status := build.Status{Build: d.visible(b).Clone(), Current: d.isCurrent(b)}
		if l := d.live[b.ID()]; l != nil {
			status.Active = l.active()
		} else if status.Current && (b.State == build.Queued || b.State == build.Built && d.owns(b)) {
			waiting[b.State]++
			status.Queue = waiting[b.State]
		}
		s.Builds = append(s.Builds, status)
	}
	s.Images = d.store.ImagesOf(s.Builds)
	return s
}

// Rebuild makes a build from its beginning, although its inputs have not changed.
// which is the id of a build or a boot resource name. It returns the id.
func (d *Daemon) Rebuild(which, by string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.builds[which]
	if b == nil {
		b = d.named(which)
	}
	if b == nil {
		return "", fmt.Errorf("cannot rebuild %.100q: %w", which, ErrNoBuild)
	}
	if err := d.workable(b); err != nil {
		return "", fmt.Errorf("cannot rebuild %s: %w", b.ID(), err)
	}
	if d.isRunning(b) {
		return "", fault.New(fault.TryLater, "cannot rebuild %s: it is being worked on: wait, or: esxid cancel %[1]s", b.ID())
	}
	b.Restart()
	d.redo(b, build.Queued)
	d.log.Info(fmt.Sprintf("%s is built anew for %s.", b.Plan.Name, by), "build", b.ID(), "name", b.Plan.Name, "by", by)
	return b.ID(), nil
}

// named returns the build that a boot resource name is meant to stand for: of the
// newest ISO, also if it failed.
func (d *Daemon) named(name string) *build.Build {
	var newest *build.Build
	for _, id := range d.current {
		if b := d.builds[id]; b != nil && b.Plan.Name == name && (newest == nil || d.compare(b, newest) > 0) {
			newest = b
		}
	}
	return newest
}

// Retry lets a build that failed, was cancelled or waits for its next try go on now, from
// the step it had come to. For one that goes on anyway it does nothing.
func (d *Daemon) Retry(id, by string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := d.find("retry", id)
	if err != nil {
		return err
	}
	if err := d.workable(b); err != nil {
		return fmt.Errorf("cannot retry %s: %w", id, err)
	}
	switch {
	case b.State == build.Done:
		return fault.New(fault.Usage, "cannot retry %s: it is done; to make it anew: esxid rebuild %[1]s", id)
	case d.isRunning(b):
		return nil
	case b.State == build.Failed:
		d.redo(b, build.Queued)
	default:
		d.redo(b, b.State)
	}
	d.log.Info(fmt.Sprintf("%s is tried again for %s.", b.Plan.Name, by), "build", id, "name", b.Plan.Name, "by", by)
	return nil
}

// Publish brings the image of a build to the targets now, also if they should have it.
func (d *Daemon) Publish(id, by string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := d.find("publish", id)
	if err != nil {
		return err
	}
	if err := d.workable(b); err != nil {
		return fmt.Errorf("cannot publish %s: %w", id, err)
	}
	switch state := d.visible(b).State; {
	case state != build.Built && state != build.Done:
		return fault.New(fault.TryLater, "cannot publish %s: it has no finished image (it is %s)", id, state)
	case !d.owns(b):
		return fault.New(fault.Usage, "cannot publish %s: %s is build %s", id, b.Plan.Name, d.owner(b.Plan.Name).ID())
	case d.isRunning(b):
		return nil
	}
	d.redo(b, build.Built)
	d.log.Info(fmt.Sprintf("%s is published again for %s.", b.Plan.Name, by), "build", id, "name", b.Plan.Name, "by", by)
	return nil
}

// redo sends a build that nobody works on to a state in which it is worked on, now.
func (d *Daemon) redo(b *build.Build, s build.State) {
	b.Error = nil
	d.transition(b, s) // forgets the pause
	wake(d.buildWake)
	wake(d.publishWake)
	d.announce()
}

// Cancel ends a build that is running or waiting, and waits until that is so. The
// build is a failed one then, which nothing but a person's wish brings back.
func (d *Daemon) Cancel(ctx context.Context, id, by string) error {
	d.mu.Lock()
	b, err := d.find("cancel", id)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	l := d.live[id]
	if l == nil {
		defer d.mu.Unlock()
		if b.State != build.Queued && b.State != build.Built {
			return fault.New(fault.Usage, "cannot cancel %s: it is %s", id, b.State)
		}
		d.cancelled(b, by)
		d.reconcileLater()
		return nil
	}
	l.by = by
	d.running[id]()
	d.mu.Unlock()

	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.done:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.builds[id]; b != nil && !b.Cancelled() {
		return fault.New(fault.TryLater, "cannot cancel %s: it had ended before: it is %s", id, b.State)
	}
	return nil
}

// cancelled puts down that somebody has ended a build.
func (d *Daemon) cancelled(b *build.Build, by string) {
	b.Error = &build.ErrorRecord{Message: "cancelled by " + by, Class: fault.Failed, Time: time.Now().UTC().Truncate(time.Second), Cancelled: true}
	b.NotBefore = time.Time{}
	d.transition(b, build.Failed)
	d.log.Warn(fmt.Sprintf("%s was cancelled by %s; to go on with it: esxid retry %s", b.Plan.Name, by, b.ID()), "build", b.ID(), "name", b.Plan.Name, "by", by)
	d.announce()
}

// find returns a build.
func (d *Daemon) find(verb, id string) (*build.Build, error) {
	if b := d.builds[id]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("cannot %s %.100q: %w", verb, id, ErrNoBuild)
}

// workable says why a build would not be worked on, whatever its state.
func (d *Daemon) workable(b *build.Build) error {
	if d.isCurrent(b) {
		return nil
	}
	if other := d.current[b.Plan.ISO.SHA256]; other != "" {
		return fault.New(fault.Usage, "its kickstart or configuration has changed: build %s has taken its place", other)
	}
	return fault.New(fault.Usage, "its ISO is gone: drop it into %s again", d.incoming())
}

// DropDirectory is where ISOs are dropped.
func (d *Daemon) DropDirectory() string { return d.incoming() }

// Rescan looks for new ISOs and for what is to be built, as if something had
// changed.
func (d *Daemon) Rescan() {
	wake(d.rescan)
	d.reconcileLater()
}

// reconcileLater lets the service's own goroutine look at everything again.
func (d *Daemon) reconcileLater() { wake(d.look) }

// Screenshot returns the screen of a build's installer as PNG.
func (d *Daemon) Screenshot(ctx context.Context, id string) ([]byte, error) {
	if err := d.installed("show the screen of", id); err != nil {
		return nil, err
	}
	return d.store.Screenshot(ctx, id)
}

// Console opens the installer's log of a build.
func (d *Daemon) Console(id string) (*os.File, error) {
	if err := d.installed("show the log of", id); err != nil {
		return nil, err
	}
	return d.store.OpenConsole(id)
}

func (d *Daemon) installed(verb, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.find(verb, id)
	return err
}

// Build takes the ISO in f, which is only read, into the library and returns the id of its
// build. name is what people call the file. What is not an installer
// is an error and leaves nothing behind.
//
// It takes an open file, not a path, because whoever asks must not be able to have a file
// read that only esxid may read.
func (d *Daemon) Build(ctx context.Context, f *os.File, name, by string) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot read the ISO: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fault.New(fault.Input, "cannot use the ISO: it is not a regular file")
	}
	name = readable(filepath.Base(strings.ToValidUTF8(name, "?")))
	name = strings.ToValidUTF8(name[:min(len(name), maxRejected)], "") // not half a letter
	d.log.Info(fmt.Sprintf("Reading %s for %s.", name, by), "file", name, "by", by)
	path, err := d.copyIn(ctx, f, info.Size())
	if err != nil {
		return "", fmt.Errorf("cannot copy the ISO: %w", err)
	}
	defer os.Remove(path) // fails once it is in the library
	identified, err := d.identify(ctx, path, name, nil)
	if err != nil {
		return "", fmt.Errorf("cannot use %s: %w", name, err)
	}
	if err := d.accept(ctx, identified, path, name); err != nil {
		return "", fmt.Errorf("cannot take %s into the library: %w", name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	id := d.current[identified.SHA256]
	if id == "" {
		return "", fmt.Errorf("%s was accepted, but a build of it cannot be planned: see journalctl -u esxid", name)
	}
	return id, nil
}

// copyIn copies a file to a temporary one in the library's directory, where the
// next start removes it if nobody else does.
func (d *Daemon) copyIn(ctx context.Context, f *os.File, size int64) (string, error) {
	out, err := os.CreateTemp(d.library.dir, ".move-*")
	if err != nil {
		return "", err
	}
	// From its beginning, wherever the caller has read to; and no more than it had
	// when the room for it was measured.
	_, err = io.Copy(out, &untilDone{ctx, io.NewSectionReader(f, 0, size)})
	if err == nil {
		err = out.Chmod(0o640)
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(out.Name())
		return "", err
	}
	return out.Name(), nil
}
