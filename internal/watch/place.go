package watch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// place watches a directory by its path: when the directory is deleted, moved
// away or replaced, renew finds what is at the path now.
//
// A watch belongs to a directory, not to a path, and its own "deleted" event
// does not come while some shell still sits in it. So the gate is watched too:
// the nearest ancestor that exists, for the next name on the way to the path.
type place struct {
	in   *inotify
	path string // absolute
	mask uint32

	wd       int // of the directory; 0: not watched
	gate     int // of the ancestor; 0: not watched
	gateName string
}

func newPlace(in *inotify, dir string, mask uint32) (*place, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, watchError(dir, err)
	}
	return &place{in: in, path: path, mask: mask}, nil
}

// renew makes the watches follow the path. fresh says that another directory
// is watched than before. The error says why none is.
func (p *place) renew() (fresh bool, err error) {
	// The gate first: whatever appears after the look below is then noticed.
	if err := p.renewGate(); err != nil {
		return false, err
	}
	wd, err := p.in.add(p.path, p.mask|selfMask)
	fresh = wd != p.wd && err == nil
	if wd != p.wd {
		p.in.remove(p.wd)
		p.wd = wd
	}
	return fresh, err
}

// renewGate fails only for want of watches. An ancestor that may not be read
// leaves recreation to the rescan.
func (p *place) renewGate() error {
	dir, name := nearest(p.path)
	for {
		// IN_ATTRIB: somebody may give back the right to read the directory.
		wd, err := p.in.add(dir, nameMask|selfMask|unix.IN_ATTRIB)
		if errors.Is(err, unix.ENOSPC) {
			return err
		}
		if wd != p.gate {
			p.in.remove(p.gate)
		}
		p.gate, p.gateName = wd, name
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

// here says whether the event is about a name in the directory.
func (p *place) here(n notice) bool {
	return n.wd == p.wd && n.name != ""
}

// moved says whether the event means that renew should have another look.
func (p *place) moved(n notice) bool {
	switch n.wd {
	case p.wd:
		return n.is(selfMask | unix.IN_UNMOUNT | unix.IN_IGNORED)
	case p.gate:
		return n.name == p.gateName || n.is(selfMask|unix.IN_UNMOUNT|unix.IN_IGNORED)
	}
	return false
}

// reason is an error's text as it reads on after the path in an Event.
func (p *place) reason(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "cannot watch "+p.path+": ")
}
