package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// maxManifest bounds the size of a manifest in bytes.
const maxManifest = 1 << 20

// reserve is how much must stay free, in bytes, on the file system that is
// copied to.
const reserve = 16 << 20

// copying is one run of Publish.
type copying struct {
	img      publish.Image
	dir      string // PATH/NAME-BUILD
	progress func(done, total int64)
	bytes    int64 // copied
	done     bool  // the files were put there by this run

	manifest []byte
	sums     []byte
}

func (c *copying) path() string { return filepath.Join(c.dir, filepath.Base(c.img.Path)) }

// prepare reads the manifest and computes what else must be there.
func (c *copying) prepare() error {
	if c.img.Dir == "" || c.img.Dir == "." || c.img.Dir == ".." || strings.ContainsRune(c.img.Dir, '/') {
		return fault.New(fault.Input, "the image has no usable directory name: %q", c.img.Dir)
	}
	f, err := openRegular(c.img.Manifest)
	if err == nil {
		defer f.Close()
		c.manifest, err = io.ReadAll(io.LimitReader(f, maxManifest+1))
	}
	if err == nil && len(c.manifest) > maxManifest {
		err = fmt.Errorf("%s is larger than %d bytes", c.img.Manifest, maxManifest)
	}
	if err != nil {
		return fault.New(fault.Input, "cannot read the image's manifest: %w", err)
	}
	sum := sha256.Sum256(c.manifest)
	c.sums = fmt.Appendf(nil, "%s  %s\n%s  %s\n",
		c.img.SHA256, filepath.Base(c.img.Path), hex.EncodeToString(sum[:]), filepath.Base(c.img.Manifest))
	return nil
}

// present reports whether all three files are there and right. What is not, or
// cannot be read, is replaced.
func (c *copying) present(ctx context.Context) bool {
	return c.holds("SHA256SUMS", c.sums) && c.holds(filepath.Base(c.img.Manifest), c.manifest) && c.isImage(ctx, c.path()) == nil
}

// holds reports whether a small file of the target has that content.
func (c *copying) holds(name string, want []byte) bool {
	f, err := openRegular(filepath.Join(c.dir, name))
	if err != nil {
		return false
	}
	defer f.Close()
	got, err := io.ReadAll(io.LimitReader(f, int64(len(want))+1))
	return err == nil && bytes.Equal(got, want)
}

func (c *copying) run(ctx context.Context) error {
	src, err := openRegular(c.img.Path)
	if err != nil {
		return fault.New(fault.Input, "cannot open the image: %w", err)
	}
	defer src.Close()
	if err := os.Mkdir(c.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// One name per image, so that what a killed run has left is overwritten by
	// the next.
	tmp := filepath.Join(c.dir, "."+filepath.Base(c.img.Path)+".partial")
	if err := c.transfer(ctx, src, tmp); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := durable.Rename(tmp, c.path()); err != nil {
		os.Remove(tmp)
		return err
	}
	info, err := os.Stat(c.img.Manifest)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(c.dir, filepath.Base(c.img.Manifest)), c.manifest, info.Mode().Perm()); err != nil {
		return err
	}
	c.done = true
	return durable.WriteFile(filepath.Join(c.dir, "SHA256SUMS"), c.sums, info.Mode().Perm())
}

// transfer makes tmp the image, by the cheapest way that works, and makes sure
// that it is the one that was verified.
func (c *copying) transfer(ctx context.Context, src *os.File, tmp string) error {
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.clone(src, tmp) || link(src, tmp) == nil {
		return c.isImage(ctx, tmp)
	}
	dst, err := c.create(src, tmp)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := c.makeRoom(); err != nil {
		return err
	}
	if err := c.copy(ctx, dst, src); err != nil {
		return err
	}
	c.bytes = c.img.Size
	return dst.Sync()
}

func (c *copying) create(src *os.File, tmp string) (*os.File, error) {
	info, err := src.Stat()
	if err != nil {
		return nil, err
	}
	return os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
}

// clone shares the image's blocks with a new file where the file system can.
func (c *copying) clone(src *os.File, tmp string) bool {
	dst, err := c.create(src, tmp)
	if err != nil {
		return false
	}
	defer dst.Close()
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) != nil || dst.Sync() != nil {
		os.Remove(tmp)
		return false
	}
	return true
}

// link gives the open file a second name: the file, even where the name it was
// opened by is a symbolic link.
func link(src *os.File, tmp string) error {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", src.Fd()), unix.AT_FDCWD, tmp, unix.AT_SYMLINK_FOLLOW)
}

// makeRoom fails early when the image cannot fit.
func (c *copying) makeRoom() error {
	var s unix.Statfs_t
	if err := unix.Statfs(c.dir, &s); err != nil {
		return &fs.PathError{Op: "statfs", Path: c.dir, Err: err}
	}
	free := int64(min(s.Bavail, 1<<40)) * s.Bsize
	if free < c.img.Size+reserve {
		return fmt.Errorf("the image of %d MiB does not fit in %s, which has %d MiB free: %w", c.img.Size>>20, c.dir, free>>20, unix.ENOSPC)
	}
	return nil
}

// isImage returns an error unless the file of that name is the image.
func (c *copying) isImage(ctx context.Context, path string) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return c.copy(ctx, io.Discard, f)
}

// copy copies f to w, and returns an error unless it was the image.
func (c *copying) copy(ctx context.Context, w io.Writer, f *os.File) error {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	var done int64
	for done <= c.img.Size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		done += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		c.progress(min(done, c.img.Size), c.img.Size)
	}
	if done != c.img.Size || hex.EncodeToString(h.Sum(nil)) != c.img.SHA256 {
		return fault.New(fault.Input, "the image %s was changed after it was verified: restore it or build it again", c.img.Path)
	}
	return nil
}

// openRegular opens a regular file; a FIFO in its place does not block.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
