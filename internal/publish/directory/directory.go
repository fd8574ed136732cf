// Package directory publishes images into a directory, from where a web
// server, rsync or another site's tools take them:
//
//	PATH/NAME-BUILD/FILE.dd.gz
//	PATH/NAME-BUILD/manifest.json
//	PATH/NAME-BUILD/SHA256SUMS      in the format of sha256sum(1)
//
// SHA256SUMS is written last, so a reader who finds it right has all of an
// image. Files have the permissions they have in the state directory.
//
// An image costs no second copy where the file system can avoid it: it is
// cloned (btrfs, XFS), else linked, else copied. A linked file must not be
// changed in place by those who find it there.
package directory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// Directory publishes to one directory.
type Directory struct {
	name, path string
}

// New returns a publisher for a target of type directory.
func New(t config.Target) (*Directory, error) {
	if !filepath.IsAbs(t.Path) {
		return nil, fault.New(fault.Config, "path: want the absolute path of an existing directory")
	}
	return &Directory{name: t.Name, path: filepath.Clean(t.Path)}, nil
}

// Name returns the target's name.
func (d *Directory) Name() string { return d.name }

// Address returns the configured path.
func (d *Directory) Address() string { return d.path }

// Check finds out whether the directory is there and may be written to.
func (d *Directory) Check(context.Context) error {
	info, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Config, "the directory %s does not exist: create it and give it to the user esxid, or correct path", d.path)
	case err != nil:
		return explain(err)
	case !info.IsDir():
		return fault.New(fault.Config, "%s is not a directory: correct path", d.path)
	}
	if err := unix.Access(d.path, unix.W_OK|unix.X_OK); err != nil {
		return explain(&fs.PathError{Op: "write to", Path: d.path, Err: err})
	}
	return nil
}

// Publish copies an image; see publish.Publisher. The image is compared with
// what was verified on the way.
func (d *Directory) Publish(ctx context.Context, img publish.Image, progress func(done, total int64)) (publish.Result, error) {
	started := time.Now()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	c := &copying{img: img, dir: filepath.Join(d.path, img.Dir), progress: progress}
	err := d.Check(ctx)
	if err == nil {
		err = c.prepare()
	}
	if err == nil && !c.present(ctx) {
		err = c.run(ctx)
	}
	if err != nil {
		return publish.Result{}, explain(err)
	}
	action := publish.Present
	if c.done {
		action = publish.Uploaded
	}
	return publish.Result{
		Target: d.name, Action: action, Location: c.path(), Bytes: c.bytes,
		Seconds: time.Since(started).Seconds(),
	}, nil
}

// explain adds advice to what the operating system says.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(fault.CannotWrite, "%w: free space there, then publish again", err)
	case errors.Is(err, unix.EROFS):
		return fault.New(fault.CannotWrite, "%w: mount it for writing, then publish again", err)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.NotPermitted, "%w: the user esxid runs as must be allowed to", err)
	}
	return err
}
