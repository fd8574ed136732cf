package watch

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// maxDelay is how many settle times a change waits at most for others to end.
const maxDelay = 30

// kickstarts is the watch of a kickstart directory. Everything in it belongs
// to run.
type kickstarts struct {
	outbox
	o     Options
	place *place

	unwatched error            // why the directory is not watched; nil: it is
	last      map[string]stamp // the files as they were at the last look, by path
	touched   map[string]bool  // paths of files with events since then
	first     time.Time        // of the events not looked into yet; zero: none
	due       time.Time        // when to look into them
}

// Kickstarts watches the *.cfg files in dir and in its *.d subdirectories, and
// tells in one Changed event which of them were added, changed or removed once
// things have been quiet for Options.Settle: an editor's temporary file and
// rename, or a copied directory, is one change. Symbolic links are followed,
// but a change behind one is only found by the rescan.
//
// What is there when Kickstarts returns is the state that later ones are
// compared with. While the directory itself is missing or unreadable that is
// trouble, and nothing counts as removed: an override is not to be replaced by
// the packaged default because somebody is busy with mv. The channel is closed
// when ctx ends.
func Kickstarts(ctx context.Context, dir string, o Options) (<-chan Event, error) {
	k, err := newKickstarts(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	go k.run()
	return k.ch, nil
}

func newKickstarts(ctx context.Context, dir string, o Options) (*kickstarts, error) {
	place, err := newPlace(dir)
	if err != nil {
		return nil, err
	}
	k := &kickstarts{
		outbox: outbox{ctx: ctx, ch: make(chan Event)},
		o:      o.withDefaults(),
		place:  place, touched: map[string]bool{},
	}
	if k.last, err = k.scan(); err != nil {
		place.close()
		return nil, err
	}
	return k, nil
}

func (k *kickstarts) run() {
	defer close(k.ch)
	defer k.place.close()
	rescan := time.NewTicker(k.o.Rescan)
	defer rescan.Stop()

	for {
		var timer <-chan time.Time
		if !k.due.IsZero() {
			timer = time.After(time.Until(k.due))
		}
		select {
		case <-k.ctx.Done():
			return
		case e := <-k.place.events():
			k.notice(e)
		case <-k.place.lost:
			k.renew()
		case <-timer:
			k.look()
		case <-rescan.C:
			k.renew()
		case <-k.o.Again:
			k.renew()
		}
	}
}

// notice takes in one event.
func (k *kickstarts) notice(e fsnotify.Event) {
	if k.place.moved(e) {
		k.renew()
		return
	}
	dir, name := split(e)
	path := filepath.Join(dir, name)
	switch {
	case dir != k.place.path && filepath.Dir(dir) != k.place.path: // what leads there
	case isKickstart(name):
		// However alike the stamps of two quick versions are: it was written. And the
		// caller may have read one that is gone at the next look.
		if !e.Has(fsnotify.Chmod) && len(k.touched) < k.o.MaxFiles {
			k.touched[path] = true
		}
		k.touch()
	case dir == k.place.path && isSubdir(name):
		if e.Has(fsnotify.Create) {
			_ = k.watchSubdir(path) // an error is found again by scan
		}
		k.touch()
	}
}

// renew watches anew and then waits, so that what happens in between is seen.
// An error is told when the wait is over.
func (k *kickstarts) renew() {
	k.unwatched = k.place.renew()
	k.touch()
}

// touch starts or extends the wait for quiet.
func (k *kickstarts) touch() {
	now := time.Now()
	if k.first.IsZero() {
		k.first = now
	}
	k.due = now.Add(k.o.Settle)
	if limit := k.first.Add(maxDelay * k.o.Settle); limit.Before(k.due) {
		k.due = limit
	}
}

// look compares what is there with what was there, and tells about it and about
// what was written and is as before.
func (k *kickstarts) look() {
	k.first, k.due = time.Time{}, time.Time{}
	var now map[string]stamp
	err := k.unwatched
	if err == nil {
		now, err = k.scan()
	}
	k.state(k.place.path, k.place.reason(err))
	if now == nil {
		return
	}
	changed := k.touched
	for path, s := range now {
		if old, ok := k.last[path]; !ok || old != s {
			changed[path] = true
		}
	}
	for path := range k.last {
		if _, ok := now[path]; !ok {
			changed[path] = true
		}
	}
	k.last, k.touched = now, map[string]bool{}
	if len(changed) > 0 {
		k.send(Event{Kind: Changed, Path: k.place.path, Paths: slices.Sorted(maps.Keys(changed))})
	}
}

// scan reads the directory and its subdirectories and watches the latter. The
// map is nil if not everything could be read; with a map, the error is about
// watching.
func (k *kickstarts) scan() (map[string]stamp, error) {
	names, err := k.list(k.place.path)
	if err != nil {
		return nil, err
	}
	found := map[string]stamp{}
	var watching error
	for _, name := range names {
		path := filepath.Join(k.place.path, name)
		switch {
		case isKickstart(name):
			found[path] = follow(path)
		case isSubdir(name) && follow(path).kind == fs.ModeDir:
			// Watch first, so that nothing falls between it and the listing.
			if err := k.watchSubdir(path); err != nil {
				watching = err
			}
			inner, err := k.list(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, name := range inner {
				if isKickstart(name) {
					found[filepath.Join(path, name)] = follow(filepath.Join(path, name))
				}
			}
		}
		if len(found) > k.o.MaxFiles {
			return nil, k.tooMany(k.place.path)
		}
	}
	return found, watching
}

// watchSubdir watches a *.d directory; watching it again does nothing.
func (k *kickstarts) watchSubdir(path string) error {
	err := k.place.add(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // gone already, of which there is an event
	}
	return err
}

// list returns the sorted names in a directory.
func (k *kickstarts) list(path string) ([]string, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, watchError(path, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(k.o.MaxFiles + 1)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, watchError(path, err)
	case len(names) > k.o.MaxFiles:
		return nil, k.tooMany(path)
	}
	slices.Sort(names)
	return names, nil
}

func (k *kickstarts) tooMany(path string) error {
	return fault.New(fault.Config, "cannot watch %s: it holds more than %d files: take out what is no kickstart", path, k.o.MaxFiles)
}

// follow takes the stamp of what path leads to, or of path itself if it leads
// nowhere.
func follow(path string) stamp {
	fi, err := os.Stat(path)
	if err != nil {
		if fi, err = os.Lstat(path); err != nil {
			return stamp{}
		}
	}
	return stampOf(fi)
}

func isKickstart(name string) bool {
	return filepath.Ext(name) == ".cfg" && !strings.HasPrefix(name, ".")
}

func isSubdir(name string) bool {
	return filepath.Ext(name) == ".d" && !strings.HasPrefix(name, ".")
}
