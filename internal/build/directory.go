package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// directory is a build's directory, held open and locked for one step. The step
// that edits the disk may do more than the service, and the service's user could
// have put anything there; so everything is opened relative to the directory,
// once, without following a link, must be a plain file with one name that belongs
// to the directory's owner, and is handed on as an open file.
type directory struct {
	path  string
	file  *os.File
	owner int // anyOwner: not checked
}

// anyOwner means that a directory and its files may belong to anybody: to those
// whom the caller's own user lets write there.
const anyOwner = -1

// openDirectory opens the directory of a build. owner is the user it must belong
// to; in base, which may be anything, it must be no link. The lock keeps out whoever
// else works on this build: a unit that was left behind, or a second service.
func openDirectory(base, name string, owner int) (*directory, error) {
	d, err := openShared(base, name)
	if err != nil {
		return nil, err
	}
	if err := d.take(owner); err != nil {
		d.close()
		return nil, fmt.Errorf("cannot use the directory %s: %w", d.path, err)
	}
	return d, nil
}

// openShared opens the directory of a build in which another process may work.
func openShared(base, name string) (*directory, error) {
	path := filepath.Join(base, name)
	fail := func(err error) error { return fmt.Errorf("cannot use the directory %s: %w", path, err) }
	if name != filepath.Base(name) || name == "." || name == ".." {
		return nil, fail(fmt.Errorf("%q is not the name of a directory", name))
	}
	root, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail(err)
	}
	defer unix.Close(root)
	// Not openat2(2): RestrictSUIDSGID= takes it away, as its flags cannot be filtered.
	fd, err := unix.Openat(root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail(err)
	}
	return &directory{path: path, file: os.NewFile(uintptr(fd), path), owner: anyOwner}, nil
}

// take checks whose directory it is and locks it.
func (d *directory) take(owner int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.file.Fd()), &st); err != nil {
		return err
	}
	if d.owner = owner; !d.owns(&st) {
		return fault.New(fault.NotPermitted, "it belongs to the user %d, not to %d", st.Uid, owner)
	}
	err := unix.Flock(int(d.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fault.New(fault.TryLater, "another process works in it")
	}
	return err
}

func (d *directory) owns(st *unix.Stat_t) bool { return d.owner == anyOwner || int(st.Uid) == d.owner }

func (d *directory) close() { d.file.Close() }

// open opens a file for reading, or with os.O_RDWR for writing too.
func (d *directory) open(name string, flags int) (*os.File, error) {
	return d.openAt(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

func (d *directory) openAt(name string, flags int, mode uint32) (*os.File, error) {
	path := filepath.Join(d.path, name)
	if name != filepath.Base(name) {
		return nil, fmt.Errorf("%q is not the name of a file", name)
	}
	fd, err := unix.Openat(int(d.file.Fd()), name, flags|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if flags&unix.O_CREAT != 0 {
		return f, nil
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || !d.owns(&st)) {
		err = fault.New(fault.NotPermitted, "cannot use %s: it is not a plain file of the build's owner with a single name", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// read returns the content of a file of at most limit bytes.
func (d *directory) read(name string, limit int64) ([]byte, error) {
	f, err := d.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fault.New(fault.Input, "%s has more than %d bytes", f.Name(), limit)
	}
	return text, err
}

// make makes a file as a whole: write fills it before it gets its name.
func (d *directory) make(name string, mode uint32, write func(*os.File) error) (err error) {
	temporary := "." + name + ".part" // the same each time: a killed step leaves only one
	if err := d.remove(temporary); err != nil {
		return err
	}
	f, err := d.openAt(temporary, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			_ = d.remove(temporary) // the error is the other one
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	fd := int(d.file.Fd())
	if err := unix.Renameat(fd, temporary, fd, name); err != nil {
		return &os.PathError{Op: "rename", Path: filepath.Join(d.path, name), Err: err}
	}
	return d.file.Sync()
}

// remove removes a file, which may be missing.
func (d *directory) remove(name string) error {
	err := unix.Unlinkat(int(d.file.Fd()), name, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "remove", Path: filepath.Join(d.path, name), Err: err}
	}
	return nil
}
