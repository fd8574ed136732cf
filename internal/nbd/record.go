package nbd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// record is what a file "nbd0.json" in the lock directory says about the device
// /dev/nbd0 while esxid uses it.
type record struct {
	Disk string `json:"disk"` // the image, an absolute path
	PID  int    `json:"pid"`  // of esxid, for a person who looks
}

const recordSuffix = ".json"

// maxRecord bounds what is read of a record, in bytes.
const maxRecord = 64 << 10

// claim is a locked record: this process, and no other esxid, uses the device.
type claim struct {
	path string
	file *os.File
}

// claimDevice takes the claim for a device. It takes over the record of a dead
// esxid, and returns errInUse if a living one holds it.
func claimDevice(dir, name string) (c *claim, err error) {
	path := filepath.Join(dir, name+recordSuffix)
	// The previous owner may remove the record between open and lock; that this
	// happens again and again means something else.
	for range 10 {
		c, err = openClaim(path, os.O_RDWR|os.O_CREATE)
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return c, err
}

// openClaim opens and locks a record. It returns errInUse if another process
// holds the lock and os.ErrNotExist if the record has been removed. The
// directory may belong to a user with fewer rights, so nothing in it is trusted
// to be a plain file.
func openClaim(path string, flags int) (*claim, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errInUse
	}
	if err == nil {
		err = samePlainFile(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &claim{path: path, file: f}, nil
}

// samePlainFile checks that f is a regular file and still the one at path.
func samePlainFile(f *os.File, path string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if !opened.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	named, err := os.Lstat(path)
	if err == nil && !os.SameFile(opened, named) {
		err = os.ErrNotExist
	}
	return err
}

// write replaces the record.
func (c *claim) write(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := c.file.Truncate(0); err != nil {
		return err
	}
	_, err = c.file.WriteAt(append(text, '\n'), 0)
	return err
}

// read returns the record; ok is false if it says nothing useful.
func (c *claim) read() (r record, ok bool) {
	text, err := io.ReadAll(io.NewSectionReader(c.file, 0, maxRecord))
	if err != nil {
		return record{}, false
	}
	err = json.Unmarshal(text, &r)
	return r, err == nil && r.Disk != ""
}

// socket is the path of the server's socket, which is in use for a moment.
func (c *claim) socket() string { return strings.TrimSuffix(c.path, recordSuffix) + ".sock" }

// remove gives up the claim; the device is free.
func (c *claim) remove() error {
	defer c.close()
	for _, path := range []string{c.socket(), c.path} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// close gives up the claim and leaves the record to Recover.
func (c *claim) close() { c.file.Close() }
