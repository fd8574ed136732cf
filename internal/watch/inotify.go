package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// selfMask selects the events that say a watched directory itself is going
// away; unmount, overflow and "watch removed" come unasked.
const selfMask = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// nameMask selects the events by which names appear and disappear.
const nameMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO

// notice is one inotify event, see inotify(7).
type notice struct {
	wd   int
	mask uint32
	name string // in the watched directory, "" for the directory itself
}

func (n notice) is(mask uint32) bool { return n.mask&mask != 0 }

// inotify is an inotify instance.
type inotify struct {
	fd   int
	file *os.File // owns fd; reading goes through Go's poller
}

// newInotify opens an inotify instance for watching dir, which is only named in
// the error.
func newInotify(dir string) (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, watchError(dir, err)
	}
	return &inotify{fd: fd, file: os.NewFile(uintptr(fd), "inotify")}, nil
}

func (in *inotify) close() { _ = in.file.Close() } // nothing is lost when this fails

// add watches a directory and returns its watch descriptor: the same one as
// before if that very directory (not: that path) is watched already.
func (in *inotify) add(dir string, mask uint32) (int, error) {
	wd, err := unix.InotifyAddWatch(in.fd, dir, mask|unix.IN_ONLYDIR|unix.IN_EXCL_UNLINK|unix.IN_MASK_ADD)
	if err != nil {
		return 0, watchError(dir, err)
	}
	return wd, nil
}

// remove ends a watch. The kernel may have ended it already.
func (in *inotify) remove(wd int) {
	if wd != 0 {
		_, _ = unix.InotifyRmWatch(in.fd, uint32(wd))
	}
}

// pump passes on what the kernel tells, in order and a read at a time, until
// the instance is closed.
func (in *inotify) pump(done <-chan struct{}, out chan<- []notice) {
	defer close(out)
	buf := make([]byte, 64<<10)
	for {
		n, err := in.file.Read(buf)
		if err != nil {
			return
		}
		select {
		case out <- parseNotices(buf[:n]):
		case <-done:
			return
		}
	}
}

// parseNotices reads a buffer of struct inotify_event.
func parseNotices(b []byte) []notice {
	var all []notice
	for len(b) >= unix.SizeofInotifyEvent {
		size := int(binary.NativeEndian.Uint32(b[12:]))
		name := b[unix.SizeofInotifyEvent:]
		if size > len(name) {
			break // cannot happen: the kernel returns whole events
		}
		all = append(all, notice{
			wd:   int(int32(binary.NativeEndian.Uint32(b))),
			mask: binary.NativeEndian.Uint32(b[4:]),
			name: string(bytes.TrimRight(name[:size], "\x00")),
		})
		b = name[size:]
	}
	return all
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
