package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// place watches a directory by its path: when the directory is deleted, moved
// away or replaced, renew finds what is at the path now.
//
// A watch belongs to a directory, not to a path, and its own "deleted" event
// does not come while some shell still sits in it. So the gate is watched too:
// the nearest ancestor that exists, for the next name on the way to the path.
type place struct {
	path    string            // absolute
	watcher *fsnotify.Watcher // nil: none could be had
	lost    chan struct{}     // has one if events were lost: time to renew

	gate string // the ancestor
	next string // what is, or will be, below it on the way to path
}

func newPlace(dir string) (*place, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, watchError(dir, err)
	}
	p := &place{path: path, lost: make(chan struct{}, 1)}
	if err := p.renew(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// renew watches what is at the path now, and nothing else. Events not read yet
// are gone, so that the caller has to look at everything afterwards. The error
// says why the directory is not watched.
//
// It starts from nothing each time, because fsnotify knows its watches by path,
// and this table is wrong after lost events and behind renamed ancestors.
func (p *place) renew() error {
	p.close()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return watchError(p.path, err)
	}
	p.watcher = watcher
	go p.hear(watcher.Errors)
	// The gate first: whatever appears after the look below is then noticed.
	if err := p.watchGate(); err != nil {
		return err
	}
	return p.add(p.path)
}

func (p *place) close() {
	if p.watcher != nil {
		_ = p.watcher.Close() // nothing is lost when this fails
		p.watcher = nil
	}
}

// hear notes that events were lost: the kernel's queue was full, or reading it
// failed. It has to be a goroutine of its own, since fsnotify may hold the lock
// that Add needs while it waits for somebody to take an error.
func (p *place) hear(errs <-chan error) {
	for range errs {
		select {
		case p.lost <- struct{}{}:
		default:
		}
	}
}

// events is where events come from until the next renew.
func (p *place) events() <-chan fsnotify.Event {
	if p.watcher == nil {
		return nil
	}
	return p.watcher.Events
}

// add watches one more directory.
func (p *place) add(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = unix.ENOTDIR // fsnotify takes files, too
	}
	if err == nil {
		err = p.watcher.Add(dir)
	}
	if err != nil {
		return watchError(dir, cause(err))
	}
	return nil
}

// watchGate fails only for want of watches. An ancestor that may not be read
// leaves recreation to the rescan.
func (p *place) watchGate() error {
	dir, name := nearest(p.path)
	for {
		p.gate, p.next = dir, filepath.Join(dir, name)
		if err := p.add(dir); errors.Is(err, unix.ENOSPC) {
			return err
		}
		// What came or went before the watch was there to tell of it?
		nowDir, nowName := nearest(p.path)
		if nowDir == dir {
			return nil
		}
		dir, name = nowDir, nowName
	}
}

// nearest returns the nearest ancestor of path that exists, and the name in it
// that leads towards path.
func nearest(path string) (dir, name string) {
	for {
		dir, name = filepath.Dir(path), filepath.Base(path)
		if fi, err := os.Stat(dir); dir == path || err == nil && fi.IsDir() {
			return dir, name
		}
		path = dir
	}
}

// in returns the name in the directory that the event is about, "" if it is
// about something else.
func (p *place) in(e fsnotify.Event) string {
	if dir, name := split(e); dir == p.path {
		return name
	}
	return ""
}

// moved says whether the event means that renew should have another look.
func (p *place) moved(e fsnotify.Event) bool {
	if e.Op == fsnotify.Write {
		return false // into a file that is in the directory's place
	}
	name := filepath.Clean(e.Name)
	return name == p.path || name == p.next || name == p.gate
}

// split returns the directory and the name that an event is about. (fsnotify
// says //name for a name in the root.)
func split(e fsnotify.Event) (dir, name string) {
	path := filepath.Clean(e.Name)
	return filepath.Dir(path), filepath.Base(path)
}

// reason is an error's text as it reads on after the path in an Event.
func (p *place) reason(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "cannot watch "+p.path+": ")
}

// watchError says why a directory cannot be watched and what to do about it.
func watchError(dir string, err error) error {
	const verb = "cannot watch %s: "
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fault.New(fault.Unavailable, verb+"the limit of inotify watches is reached: raise it: "+
			"sysctl fs.inotify.max_user_watches=524288 (%w)", dir, err)
	case errors.Is(err, unix.EMFILE):
		return fault.New(fault.Unavailable, verb+"the limit of inotify instances or of open files is reached: raise it: "+
			"sysctl fs.inotify.max_user_instances=1024 (%w)", dir, err)
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Config, verb+"it does not exist: create it: mkdir -p %s (%w)", dir, dir, err)
	case errors.Is(err, unix.ENOTDIR):
		return fault.New(fault.Config, verb+"it is not a directory (%w)", dir, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.NotPermitted, verb+"user id %d may not read it: give it read and search permission (%w)",
			dir, os.Geteuid(), err)
	}
	return fmt.Errorf(verb+"%w", dir, err)
}
