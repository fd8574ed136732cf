package debianvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/test/tinylinux"
)

//go:embed image.sh
var imageScript []byte

// Image is an installed Debian 12. Machines run on a layer over its disk.
type Image struct{ dir string }

func (i *Image) disk() string   { return filepath.Join(i.dir, "disk.raw") }
func (i *Image) kernel() string { return filepath.Join(i.dir, "vmlinuz") }
func (i *Image) initrd() string { return filepath.Join(i.dir, "initrd") }

// Find returns the image from the cache of tinylinux. It is made first, which
// takes a minute and a network, when it is missing or when image.sh has
// changed. Any number of processes may do this at once.
func Find(ctx context.Context) (*Image, error) {
	cache, err := tinylinux.CacheDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(cache, "debian-vm.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	key := fmt.Sprintf("%x", sha256.Sum256(imageScript))[:12]
	dir := filepath.Join(cache, "debian-vm-"+key)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return &Image{dir}, err
	}
	// Images of other scripts are of no use any more, nor is one half made.
	old, err := filepath.Glob(filepath.Join(cache, "debian-vm-*"))
	if err != nil {
		return nil, err
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			return nil, err
		}
	}
	if err := makeImage(ctx, dir); err != nil {
		return nil, fmt.Errorf("cannot make the disk of a Debian machine: %w", err)
	}
	return &Image{dir}, nil
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// makeImage makes the image beside its place and renames it there.
func makeImage(ctx context.Context, dir string) error {
	tmp := dir + ".tmp"
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	script := filepath.Join(tmp, "image.sh")
	if err := os.WriteFile(script, imageScript, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, script, tmp)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("image.sh: %w\n%s", err, bytes.TrimSpace(out))
	}
	return os.Rename(tmp, dir)
}
