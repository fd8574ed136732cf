package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// blink is for how long no event is read when there were two equal ones in a row,
// as the writes of a big copy are. The kernel merges what waits to be read into
// one event, and the copy wakes us some twenty times a second, not thousands.
const blink = 50 * time.Millisecond

// isos is the watch of a drop directory. Everything in it belongs to run.
type isos struct {
	outbox
	o       Options
	place   *place
	writers func(path string) (use, error)
	now     func() time.Time

	files map[string]*file // by name
	full  bool             // names were left out because of MaxFiles
}

// ISOs watches the drop directory dir. When it returns, the watch is armed and
// what is there already has been found; events come as the caller reads them.
// The channel is closed when ctx ends.
//
// The error says why dir cannot be watched now, and what to do about it; if it
// gets lost later, that is an event and not an error.
func ISOs(ctx context.Context, dir string, o Options) (<-chan Event, error) {
	w, err := newISOs(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	go w.run()
	return w.ch, nil
}

func newISOs(ctx context.Context, dir string, o Options) (*isos, error) {
	place, err := newPlace(dir)
	if err != nil {
		return nil, err
	}
	w := &isos{
		outbox:  outbox{ctx: ctx, ch: make(chan Event)},
		o:       o.withDefaults(),
		place:   place,
		writers: writers,
		now:     time.Now,
		files:   map[string]*file{},
	}
	if err := w.discover(); err != nil {
		place.close()
		return nil, err
	}
	return w, nil
}

func (w *isos) run() {
	defer close(w.ch)
	defer w.place.close()
	rescan := time.NewTicker(w.o.Rescan)
	defer rescan.Stop()

	w.report(nil)
	var last fsnotify.Event
	var pause <-chan time.Time
	for {
		events := w.place.events()
		if pause != nil {
			events = nil
		}
		select {
		case <-w.ctx.Done():
			return
		case e := <-events:
			w.handle(e)
			if e.Op == fsnotify.Write && e == last {
				pause = time.After(blink)
			}
			last = e
		case <-pause:
			pause = nil
		case <-w.place.lost:
			w.rescan()
		case <-w.timer():
			w.judgeDue()
		case <-rescan.C:
			w.again()
		case <-w.o.Again:
			w.again()
		}
	}
}

// timer fires when the first pending file wants to be judged; it is nil if none
// is pending.
func (w *isos) timer() <-chan time.Time {
	if next := w.nextDue(); !next.IsZero() {
		return time.After(next.Sub(w.now()))
	}
	return nil
}

// again looks at everything anew and forgets what the caller was told of what
// is still there. It does not make a file any younger.
func (w *isos) again() {
	due := w.now().Add(w.o.Settle)
	for _, f := range w.files {
		f.told, f.reason, f.due = "", "", due
	}
	w.rescan()
}

// nextDue is when the first pending file wants to be judged, zero if none is
// pending.
func (w *isos) nextDue() time.Time {
	var next time.Time
	for _, f := range w.files {
		if !f.due.IsZero() && (next.IsZero() || f.due.Before(next)) {
			next = f.due
		}
	}
	return next
}

// handle takes in one event.
func (w *isos) handle(e fsnotify.Event) {
	if w.place.moved(e) {
		w.rescan()
		return
	}
	name := w.place.in(e)
	if name == "" || ignored(name) {
		return
	}
	if e.Has(fsnotify.Remove | fsnotify.Rename) {
		// Even if the name is taken again by now: that one is told of anew.
		w.forget(name)
	}
	f := w.look(name)
	if f != nil && e.Has(fsnotify.Chmod) && f.told == Refused && f.due.IsZero() {
		w.renewed(f) // perhaps it can be read now
	}
	if w.full {
		w.report(nil)
	}
}

// look compares a name with what is known about it, and returns what is known
// now: nil if there is no such file.
func (w *isos) look(name string) *file {
	f := w.files[name]
	path := filepath.Join(w.place.path, name)
	s, err := lookAt(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		w.forget(name)
		return nil
	case err != nil:
		return f // what cannot be looked at stays as it was
	case f == nil && len(w.files) >= w.o.MaxFiles:
		w.full = true
		return nil
	case f == nil:
		f = &file{path: path}
		w.files[name] = f
	case f.stamp == s:
		return f
	case f.settled() && f.stamp.sameContent(s):
		f.stamp = s // only a new mode, owner or link
		return f
	}
	f.stamp = s
	w.renewed(f)
	return f
}

// renewed starts judging a file from the beginning.
func (w *isos) renewed(f *file) {
	f.since = w.now()
	f.told, f.reason = "", ""
	f.due = f.since.Add(w.o.Settle)
}

func (w *isos) forget(name string) {
	f := w.files[name]
	if f == nil {
		return
	}
	delete(w.files, name)
	if f.known {
		w.send(Event{Kind: Gone, Path: f.path})
	}
	if w.full {
		// There is room for one that was left out.
		w.report(w.discover())
	}
}

// names are the tracked names in order, so that what happens to several at
// once is told in that order.
func (w *isos) names() []string { return slices.Sorted(maps.Keys(w.files)) }

// judgeDue judges the pending files whose time has come.
func (w *isos) judgeDue() {
	now := w.now()
	isDue := func(f *file) bool { return f != nil && !f.due.IsZero() && !f.due.After(now) }
	for _, name := range w.names() {
		if !isDue(w.files[name]) {
			continue
		}
		f := w.look(name)
		if !isDue(f) {
			continue // gone, or it has changed
		}
		kind, reason, due := f.judge(&w.o, now.Sub(f.since), w.writers)
		if f.due = (time.Time{}); due > 0 {
			f.due = f.since.Add(due)
		}
		if kind != "" && (kind != f.told || reason != f.reason) {
			f.told, f.reason, f.known = kind, reason, true
			w.send(Event{Kind: kind, Path: f.path, Reason: reason})
		}
	}
}

// report tells of trouble with the directory, or of its end.
func (w *isos) report(err error) {
	reason := w.place.reason(err)
	if reason == "" && w.full {
		reason = fmt.Sprintf("holds more than %d files: the others are looked at when some of these are gone", w.o.MaxFiles)
	}
	w.state(w.place.path, reason)
}

// rescan makes the watch follow the path and looks at everything anew.
func (w *isos) rescan() {
	if err := w.place.renew(); err != nil {
		w.report(err)
	} else {
		w.report(w.discover())
	}
	for _, name := range w.names() {
		w.look(name)
	}
}

// discover looks at the names in the directory that are not tracked yet.
func (w *isos) discover() error {
	dir, err := os.Open(w.place.path)
	if err != nil {
		return watchError(w.place.path, err)
	}
	defer dir.Close()
	// Listing a directory takes the right to read it; looking at what is in it
	// takes the right to search it.
	if _, err := os.Lstat(w.place.path + "/."); err != nil {
		return watchError(w.place.path, err)
	}
	w.full = false
	for {
		names, err := dir.Readdirnames(256)
		slices.Sort(names)
		for _, name := range names {
			if w.files[name] == nil && !ignored(name) {
				w.look(name)
			}
			if w.full {
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return watchError(w.place.path, err)
		}
	}
}
