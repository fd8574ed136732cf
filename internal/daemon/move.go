package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/esxid/esxid/internal/durable"
)

// move renames a file or, when incoming is a mount of its own, copies and then
// removes it. The target appears whole or not at all.
func move(ctx context.Context, from, to string) error {
	err := durable.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := copyFile(ctx, from, to); err != nil {
		return fmt.Errorf("cannot copy %s to another file system: %w", from, err)
	}
	return os.Remove(from)
}

func copyFile(ctx context.Context, from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	out, err := os.CreateTemp(filepath.Dir(to), ".move-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // fails once it has been renamed
	defer out.Close()
	if _, err := io.Copy(out, &untilDone{ctx, in}); err != nil {
		return err
	}
	if err := out.Chmod(0o640); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return durable.Rename(out.Name(), to)
}

// untilDone is a reader that ends with its context: an ISO takes a while.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// removed begins the name of what has been put aside to be removed, in the directory
// it was in.
const removed = ".removed-"

// unmove removes from a directory what a killed process had not finished writing, or
// removing.
func unmove(dir string) error {
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removed) || strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// free returns path, or path with a number before its extension, such that
// nothing is there yet.
func free(path string) string {
	ext := filepath.Ext(path)
	base := path[:len(path)-len(ext)]
	candidate := path
	for i := 1; i < 10_000; i++ {
		if _, err := os.Lstat(candidate); err != nil {
			return candidate
		}
		candidate = fmt.Sprintf("%s.%d%s", base, i, ext)
	}
	return candidate
}
