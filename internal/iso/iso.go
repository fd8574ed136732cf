// Package iso reads ESXi installer ISOs: it tells which release an ISO holds,
// refuses what is not a whole and consistent installer, and plans the change
// of boot options that starts the installer unattended.
//
// The ISO is never written to. Everything in it is taken for hostile: each
// size, count and depth is bounded, and every extent is checked against the
// file before it is read. The reader knows plain ISO 9660 (ECMA-119) and
// El Torito, which is all that VMware's ISOs use; Joliet, Rock Ridge and UDF
// are ignored, as the boot loaders ignore them.
package iso

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/esxid/esxid/internal/fault"
)

// Image is an open ISO file whose structure has been read and checked.
type Image struct {
	path string
	file *os.File
	stat fileState
	data io.ReaderAt
	size int64

	primary  int64 // sector of the primary volume descriptor
	volumeID string
	udf      bool     // there is a UDF file system too, as on Windows ISOs
	boot     []uint32 // sectors of the boot images
	root     *node
}

// fileState is what tells a file from a changed or replaced one.
type fileState struct {
	dev, inode   uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// Open opens the ISO at path and reads its volume descriptors, its boot catalog
// and its directory tree. Only regular files are opened, symbolic links are not
// followed, and nothing that path may be can make Open wait. The error of a
// file that is not a whole ISO 9660 image has the class fault.Input.
func Open(path string) (*Image, error) {
	// Looked at before it is opened: opening a device can have effects.
	before, err := os.Lstat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if err := regular(path, before.Mode()); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	img, err := openFile(path, file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return img, nil
}

func openFile(path string, file *os.File) (*Image, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, openError(path, err)
	}
	if err := regular(path, info.Mode()); err != nil {
		return nil, err
	}
	img, err := parse(path, file, info.Size())
	if err != nil {
		return nil, err
	}
	img.file, img.stat = file, stateOf(info)
	return img, nil
}

// openError explains why the file at path cannot be opened.
func openError(path string, err error) error {
	// The path stands in the message already.
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fault.New(fault.Input, "cannot open %s: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.NotPermitted,
			"cannot open %s: %w: make the file, and the directories above it, readable for the user esxid runs as", path, err)
	}
	return fault.New(fault.Failed, "cannot open %s: %w", path, err)
}

// regular returns nil for the mode of a regular file, else what the file is.
func regular(path string, mode fs.FileMode) error {
	var what string
	switch mode.Type() {
	case 0:
		return nil
	case fs.ModeDir:
		what = "a directory"
	case fs.ModeSymlink:
		what = "a symbolic link"
	case fs.ModeNamedPipe:
		what = "a named pipe"
	case fs.ModeSocket:
		what = "a socket"
	default:
		what = "a device"
	}
	return fault.New(fault.Input, "cannot read %s: it is %s: give the ISO as a regular file", path, what)
}

func stateOf(info fs.FileInfo) fileState {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileState{}
	}
	return fileState{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
}

// Close closes the file.
func (img *Image) Close() error { return img.file.Close() }

// Size returns the length of the file in bytes.
func (img *Image) Size() int64 { return img.size }

// ErrChanged is the cause of an error of Unchanged about a file that somebody
// still writes to.
var ErrChanged = errors.New("it changed while it was read")

// Unchanged returns an error if the file at the image's path is no longer the
// one that was opened: replaced, removed, written to or its attributes changed.
// What was read from the image is only good if Unchanged returns nil afterwards.
func (img *Image) Unchanged() error {
	info, err := os.Lstat(img.path)
	if err != nil {
		return fault.New(fault.Input, "cannot use %s: it was moved or removed while it was read: %w", img.path, err)
	}
	if stateOf(info) != img.stat {
		return fault.New(fault.Input,
			"cannot use %s: %w: wait until it is copied completely, then try again", img.path, ErrChanged)
	}
	return nil
}

// ReadFile returns the content of a file in the image. Names are compared
// without regard to case and without the version number (";1"). A file longer
// than limit bytes is an error.
func (img *Image) ReadFile(path string, limit int64) ([]byte, error) {
	n, err := img.lookup(path)
	if err != nil {
		return nil, err
	}
	switch {
	case n.dir:
		return nil, fault.New(fault.Input, "cannot read /%s in %s: it is a directory", n.path(), img.path)
	case n.size > limit:
		return nil, fault.New(fault.Input, "cannot read /%s in %s: it has %d bytes, more than the %d expected at most",
			n.path(), img.path, n.size, limit)
	}
	return img.read(n.offset(), n.size)
}

// SHA256 reads the whole file and returns its checksum in hexadecimal. progress
// may be nil. A file that changed since Open is an error.
func (img *Image) SHA256(ctx context.Context, progress func(done, total int64)) (string, error) {
	const block = 1 << 20
	hash, buf := sha256.New(), make([]byte, block)
	for done := int64(0); done < img.size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		part := buf[:min(block, img.size-done)]
		if err := img.readFull(part, done); err != nil {
			return "", err
		}
		hash.Write(part)
		done += int64(len(part))
		if progress != nil {
			progress(done, img.size)
		}
	}
	if err := img.Unchanged(); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// read returns length bytes at offset, which must lie inside the file.
func (img *Image) read(offset, length int64) ([]byte, error) {
	b := make([]byte, length)
	if err := img.readFull(b, offset); err != nil {
		return nil, err
	}
	return b, nil
}

func (img *Image) readFull(b []byte, offset int64) error {
	n, err := img.data.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return fault.New(fault.Input, "cannot read %s: it became shorter while it was read", img.path)
	}
	return fault.New(fault.Failed, "cannot read %s: %w", img.path, err)
}
