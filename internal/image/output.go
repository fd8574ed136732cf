package image

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"golang.org/x/sys/unix"
)

// output is a file that appears under its name when it is complete.
type output struct {
	*os.File
	path    string
	written int64
	synced  int64
}

// writeback is how many written bytes may wait for the disk. Starting early
// makes the sync at the end short.
const writeback = 16 * mib

// createOutput opens a file beside path. Its name is always the same, so that a
// run after a killed one leaves nothing behind.
//
// The file that gets its name replaces what has it, so that must not be a
// device: a shell's "> /dev/null" is not for root to imitate.
func createOutput(path string, mode fs.FileMode) (*output, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fault.New(fault.CannotWrite, "cannot create %s: something that is not a regular file has that name", path)
	}
	part := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, mode)
	if err != nil {
		return nil, fault.New(fault.CannotWrite, "cannot create %s: %w", path, err)
	}
	return &output{File: f, path: path}, nil
}

// Write appends to the file.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.File.Write(b)
	o.written += int64(n)
	if o.written-o.synced >= writeback {
		// Only a hint; commit syncs for good.
		_ = unix.SyncFileRange(int(o.Fd()), o.synced, o.written-o.synced, unix.SYNC_FILE_RANGE_WRITE)
		o.synced = o.written
	}
	return n, err
}

// commit makes the file durable and gives it its name.
func (o *output) commit() error {
	if err := o.Sync(); err != nil {
		return fmt.Errorf("cannot write %s: %w", o.path, err)
	}
	if err := o.Close(); err != nil {
		return fmt.Errorf("cannot write %s: %w", o.path, err)
	}
	if err := durable.Rename(o.Name(), o.path); err != nil {
		return fmt.Errorf("cannot write %s: %w", o.path, err)
	}
	return nil
}

// discard removes the file unless it has been committed.
func (o *output) discard() {
	// After commit it is closed and nothing has this name.
	_ = o.Close()
	_ = os.Remove(o.Name())
}
