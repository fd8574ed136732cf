package maassim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// storage is where uploaded bytes land. The three generations differ in what
// an upload request touches besides the database row, which is why a failed
// one leaves different things behind.
type storage interface {
	path(name string) string

	// put adds data to the file of that name. received is what the database
	// counts so far and total the file's full size. If the content is then
	// complete, its checksum is compared with sha.
	put(name string, data []byte, received, total int64, sha string) error

	// appendOnly reports whether a server-side retry of put repeats the data.
	appendOnly() bool

	remove(name string)
}

var (
	errTooMuch  = errors.New("too much data")
	errBadSHA   = errors.New("wrong checksum")
	errDiskFull = errors.New("no space left on device")
)

func newStorage(generation, dir string) storage {
	switch generation {
	case "3.6":
		return mapped{dir}
	case "3.8":
		return appended{dir}
	}
	return largeObjects{dir}
}

// largeObjects is PostgreSQL's storage up to 3.4: transactional with the row.
type largeObjects struct{ dir string }

func (l largeObjects) path(name string) string { return filepath.Join(l.dir, name) }
func (l largeObjects) appendOnly() bool        { return false }
func (l largeObjects) remove(name string)      { os.Remove(l.path(name)) }

func (l largeObjects) put(name string, data []byte, received, total int64, sha string) error {
	if received+int64(len(data)) > total {
		return errTooMuch
	}
	if err := writeAt(l.path(name), data, received); err != nil {
		return err
	}
	return checkSum(l.path(name), received+int64(len(data)), total, sha)
}

// mapped is the storage of 3.5 to 3.7: NAME.incomplete, allocated at its full
// size and written at the offset the database has; renamed when its checksum
// is right.
type mapped struct{ dir string }

func (m mapped) path(name string) string { return filepath.Join(m.dir, name) }
func (m mapped) appendOnly() bool        { return false }

func (m mapped) remove(name string) {
	os.Remove(m.path(name))
	os.Remove(m.path(name) + ".incomplete")
}

func (m mapped) put(name string, data []byte, received, total int64, sha string) error {
	if received+int64(len(data)) > total {
		return errTooMuch
	}
	partial := m.path(name) + ".incomplete"
	if err := writeAt(partial, data, received); err != nil {
		return err
	}
	if received+int64(len(data)) < total {
		return os.Truncate(partial, total)
	}
	if err := checkSum(partial, total, total, sha); err != nil {
		return err
	}
	return os.Rename(partial, m.path(name))
}

// appended is the storage of 3.8: data is appended to the final path, whatever
// the database counts, and completeness is judged by the size on disk.
type appended struct{ dir string }

func (a appended) path(name string) string { return filepath.Join(a.dir, name) }
func (a appended) appendOnly() bool        { return true }
func (a appended) remove(name string)      { os.Remove(a.path(name)) }

func (a appended) put(name string, data []byte, _, total int64, sha string) error {
	f, err := os.OpenFile(a.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size+int64(len(data)) > total {
		a.remove(name)
		return errTooMuch
	}
	if _, err := f.Write(data); err != nil {
		a.remove(name)
		return err
	}
	return checkSum(a.path(name), size+int64(len(data)), total, sha)
}

func writeAt(path string, data []byte, offset int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, offset); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// checkSum compares the content with sha once it has its full size.
func checkSum(path string, size, total int64, sha string) error {
	if size != total {
		return nil
	}
	sum, _, err := hashFile(path)
	if err != nil {
		return err
	}
	if sum != sha {
		return errBadSHA
	}
	return nil
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return hex.EncodeToString(h.Sum(nil)), size, err
}
