package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stamp tells one state of a file from another.
type stamp struct {
	dev, ino uint64
	size     int64
	mtime    int64 // ns; compared for equality only
	ctime    int64 // ns; shows what set the mtime back, but chmod and link change it too
	kind     fs.FileMode
}

// lookAt takes the stamp of path itself, not of what a symlink points to.
func lookAt(path string) (stamp, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return stamp{}, err
	}
	return stampOf(fi), nil
}

func stampOf(fi fs.FileInfo) stamp {
	s := stamp{size: fi.Size(), mtime: fi.ModTime().UnixNano(), kind: fi.Mode().Type()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.ctime = st.Dev, st.Ino, st.Ctim.Nano()
	}
	return s
}

// sameContent says whether the two differ in the ctime at most.
func (s stamp) sameContent(o stamp) bool {
	s.ctime = o.ctime
	return s == o
}

// file is what is known about one name in the directory of ISOs.
type file struct {
	path   string
	stamp  stamp
	since  time.Time // when stamp was first seen
	told   Kind      // what the caller was told about this stamp, "" if nothing
	reason string    // with which reason
	known  bool      // the caller was told something about the file
	due    time.Time // when to judge again; zero: not without an event
}

// settled says whether the caller has been told how it ended.
func (f *file) settled() bool { return f.told == Complete || f.told == Refused }

// judge decides about a file that has been as it is for the duration age. An
// empty Kind means: not yet. due is the age to judge it at again, if it is
// still the same by then.
func (f *file) judge(o *Options, age time.Duration, writers func(string) (use, error)) (kind Kind, reason string, due time.Duration) {
	if age < o.Settle {
		return "", "", o.Settle
	}
	// later is for everything that time may still change.
	later := func(limit time.Duration, reason string) (Kind, string, time.Duration) {
		for _, d := range []time.Duration{o.Quiet, o.Notice, limit} {
			if age < d && (due == 0 || d < due) {
				due = d
			}
		}
		if due == 0 {
			due = age + o.Quiet
		}
		if age >= o.Notice {
			kind = Waiting
		}
		return kind, reason, due
	}

	switch f.stamp.kind {
	case 0: // regular
	case fs.ModeSymlink:
		return Refused, "is a symbolic link: copy the file itself here", 0
	case fs.ModeDir:
		// Moving a directory away while it is being filled would break the copy.
		if age < o.Quiet {
			return later(o.Quiet, "is a directory")
		}
		return Refused, "is a directory: put the ISO file itself here, not its directory", 0
	case fs.ModeNamedPipe:
		return Refused, "is a FIFO and not a file: copy the ISO file here", 0
	case fs.ModeSocket:
		return Refused, "is a socket and not a file: copy the ISO file here", 0
	default:
		return Refused, "is a device and not a file: copy the ISO file here", 0
	}

	writing, err := writers(f.path)
	switch {
	case err != nil:
		// scp and rsync set the mode last, so this too gets some time.
		if age < o.Quiet {
			return later(o.Quiet, "cannot be read")
		}
		return Refused, fmt.Sprintf("cannot be read by user id %d: %v: make it readable: chmod a+r", os.Geteuid(), cause(err)), 0
	case writing == busy:
		// No event tells of the close: look again after half the time that the
		// writer has been idle for.
		return later(age+min(age/2, o.Quiet), "is still open for writing")
	case writing == unknown && age < o.lull:
		return later(o.lull, "may still be open for writing")
	case !isISO(f.path):
		// Whoever uses a temporary name of a kind unknown to ignored has had
		// time to rename it.
		if age < o.Quiet {
			return later(o.Quiet, "has no name that ends in .iso")
		}
		return Refused, "has no name that ends in .iso: rename it if it is an ESXi installer", 0
	case f.stamp.size == 0:
		if age < o.GiveUp {
			return later(o.GiveUp, "is empty so far")
		}
		return Refused, "is empty: copy it again", 0
	}
	if lack := o.Whole(f.path); lack != nil {
		if age < o.GiveUp {
			return later(o.GiveUp, fmt.Sprintf("is not whole yet: %v", lack))
		}
		return Refused, fmt.Sprintf("is not whole and has not changed for %v: %v: copy it again", o.GiveUp, lack), 0
	}
	return Complete, "", 0
}

// cause is err without the path, which the reader has already.
func cause(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func isISO(path string) bool {
	return strings.EqualFold(filepath.Ext(path), ".iso")
}

// unfinished are the endings of the names that programs give to a download or
// copy in progress, or to notes about one.
var unfinished = []string{
	"~", ".aria2", ".bak", ".crdownload", ".download", ".filepart", ".lock", ".opdownload", ".part", ".partial",
	".st", ".swp", ".temp", ".tmp",
}

// ignored says whether a name is none of our business: hidden files, among
// them rsync's ".name.XXXXXX", other temporary names, and what mkfs leaves in
// the root of a file system.
func ignored(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || name == "lost+found" ||
		slices.ContainsFunc(unfinished, func(end string) bool { return strings.HasSuffix(name, end) })
}
