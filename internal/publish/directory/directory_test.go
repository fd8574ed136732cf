package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

func newDirectory(t *testing.T, path string) *Directory {
	t.Helper()
	d, err := New(config.Target{Type: config.TargetDirectory, Name: "local", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// newImage writes an image of 3 MiB and a bit, and its manifest, to dir.
func newImage(t *testing.T, dir string) publish.Image {
	t.Helper()
	data := bytes.Repeat([]byte("image"), 3<<20/5+7)
	img := publish.Image{
		Path: filepath.Join(dir, "vmware-esxi-8.0.3-24677879.dd.gz"), Manifest: filepath.Join(dir, "manifest.json"),
		Size: int64(len(data)), Dir: "esxi-8.0-24677879",
	}
	sum := sha256.Sum256(data)
	img.SHA256 = hex.EncodeToString(sum[:])
	for path, text := range map[string][]byte{img.Path: data, img.Manifest: []byte("{}\n")} {
		if err := os.WriteFile(path, text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// twoDevices returns directories on different file systems.
func twoDevices(t *testing.T) (from, to string) {
	t.Helper()
	to, err := os.MkdirTemp("/dev/shm", "esxid-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(to) })
	from = t.TempDir()
	if device(t, from) == device(t, to) {
		if from, err = os.MkdirTemp("/var/tmp", "esxid-test-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(from) })
	}
	return from, to
}

func device(t *testing.T, path string) uint64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Dev
}

// check has sha256sum(1) look at what was published, and finds nothing else there.
func check(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 2 {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d files: %v, %v", len(entries), entries, err)
	}
}

func TestPublish(t *testing.T) {
	same := t.TempDir()
	from, to := twoDevices(t)
	for _, tt := range []struct {
		name, from, to string
		copied         bool
	}{
		{"one file system", same, t.TempDir(), false},
		{"two file systems", from, to, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := newImage(t, tt.from)
			d := newDirectory(t, tt.to)
			var last int64
			r, err := d.Publish(t.Context(), img, func(done, total int64) {
				if done < last || total != img.Size {
					t.Errorf("progress %d/%d after %d", done, total, last)
				}
				last = done
			})
			if err != nil {
				t.Fatal(err)
			}
			want := filepath.Join(tt.to, img.Dir, filepath.Base(img.Path))
			if r.Action != publish.Uploaded || r.Location != want || r.Target != "local" || last != img.Size || (r.Bytes == img.Size) != tt.copied {
				t.Errorf("result %+v, progress %d", r, last)
			}
			check(t, filepath.Dir(want))
			if info, err := os.Stat(want); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}

			r, err = d.Publish(t.Context(), img, nil)
			if err != nil || r.Action != publish.Present || r.Bytes != 0 {
				t.Errorf("second time: %+v, %v", r, err)
			}
		})
	}
}

// TestSymlink: what is published of an image that is a symbolic link is the image.
func TestSymlink(t *testing.T) {
	dir, target := t.TempDir(), t.TempDir()
	img := newImage(t, dir)
	if err := os.Rename(img.Path, filepath.Join(dir, "image")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("image", img.Path); err != nil {
		t.Fatal(err)
	}
	r, err := newDirectory(t, target).Publish(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(r.Location); err != nil || !info.Mode().IsRegular() || r.Bytes != 0 {
		t.Errorf("%v, %v, %d bytes copied", info.Mode(), err, r.Bytes)
	}
	check(t, filepath.Dir(r.Location))
}

// TestRepair: what is there but wrong is replaced, whatever it is.
func TestRepair(t *testing.T) {
	from, to := twoDevices(t)
	img := newImage(t, from)
	d := newDirectory(t, to)
	dir := filepath.Join(to, img.Dir)
	file := filepath.Join(dir, filepath.Base(img.Path))
	spoil := map[string]func() error{
		"image edited":    func() error { return os.WriteFile(file, []byte("x"), 0o600) },
		"image removed":   func() error { return os.Remove(file) },
		"image is a FIFO": func() error { _ = os.Remove(file); return syscall.Mkfifo(file, 0o600) },
		"manifest edited": func() error { return os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{ }"), 0o600) },
		"sums removed":    func() error { return os.Remove(filepath.Join(dir, "SHA256SUMS")) },
		"left by a killed": func() error {
			_ = os.Remove(file)
			return os.WriteFile(filepath.Join(dir, "."+filepath.Base(file)+".partial"), []byte("x"), 0o600)
		},
	}
	if _, err := d.Publish(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	for name, f := range spoil {
		t.Run(name, func(t *testing.T) {
			if err := f(); err != nil {
				t.Fatal(err)
			}
			r, err := d.Publish(t.Context(), img, nil)
			if err != nil || r.Action != publish.Uploaded {
				t.Errorf("%+v, %v", r, err)
			}
			check(t, dir)
		})
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, img *publish.Image, target *string)
		class fault.Class
		want  string
	}{
		{"edited image", func(t *testing.T, img *publish.Image, _ *string) {
			f, err := os.OpenFile(img.Path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("X"), 1<<20); err != nil {
				t.Fatal(err)
			}
		}, fault.Input, "changed after it was verified"},
		{"longer image", func(_ *testing.T, img *publish.Image, _ *string) { img.Size-- }, fault.Input, "changed after it was verified"},
		{"no image", func(_ *testing.T, img *publish.Image, _ *string) { _ = os.Remove(img.Path) }, fault.Input, "cannot open the image"},
		{"no manifest", func(_ *testing.T, img *publish.Image, _ *string) { _ = os.Remove(img.Manifest) }, fault.Input, "manifest"},
		{"huge manifest", func(t *testing.T, img *publish.Image, _ *string) {
			if err := os.Truncate(img.Manifest, maxManifest+1); err != nil {
				t.Fatal(err)
			}
		}, fault.Input, "larger than"},
		{"directory missing", func(_ *testing.T, _ *publish.Image, target *string) { *target += "/missing" }, fault.Config, "create it"},
		{"no directory", func(_ *testing.T, img *publish.Image, target *string) { *target = img.Path }, fault.Config, "not a directory"},
		{"hostile name", func(_ *testing.T, img *publish.Image, _ *string) { img.Dir = "../x" }, fault.Input, "directory name"},
		{"dots", func(_ *testing.T, img *publish.Image, _ *string) { img.Dir = ".." }, fault.Input, "directory name"},
		{"file in the way", func(t *testing.T, img *publish.Image, target *string) {
			if err := os.WriteFile(filepath.Join(*target, img.Dir), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, fault.Failed, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, target := newImage(t, t.TempDir()), t.TempDir()
			tt.spoil(t, &img, &target)
			_, err := newDirectory(t, target).Publish(t.Context(), img, nil)
			if fault.ClassOf(err) != tt.class || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("err = %v (class %d), want %q (class %d)", err, fault.ClassOf(err), tt.want, tt.class)
			}
			if left, _ := filepath.Glob(filepath.Join(target, img.Dir, ".*partial")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if _, err := os.Stat(filepath.Join(target, img.Dir, "SHA256SUMS")); err == nil {
				t.Error("a refused image has been published")
			}
		})
	}
}

// TestDiskFull: an image that cannot fit is refused before it is copied.
func TestDiskFull(t *testing.T) {
	from, to := twoDevices(t)
	img := newImage(t, from)
	img.Size = 8 << 40
	if err := os.Truncate(img.Path, img.Size); err != nil { // sparse
		t.Fatal(err)
	}
	_, err := newDirectory(t, to).Publish(t.Context(), img, nil)
	if fault.ClassOf(err) != fault.CannotWrite || !strings.Contains(err.Error(), "free space") || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("err = %v", err)
	}
}

func TestNotWritable(t *testing.T) {
	img, target := newImage(t, t.TempDir()), t.TempDir()
	for _, path := range []string{filepath.Dir(img.Path), filepath.Dir(filepath.Dir(img.Path)), img.Path, img.Manifest} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(target, 0o555); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		if os.Geteuid() == 0 {
			// Root may write anywhere; a thread with another file system user
			// may not. It ends with the goroutine that is locked to it.
			runtime.LockOSThread()
			if err := unix.Setfsuid(65534); err != nil {
				t.Error(err)
			}
		}
		_, err := newDirectory(t, target).Publish(t.Context(), img, nil)
		failed <- err
	}()
	if err := <-failed; fault.ClassOf(err) != fault.NotPermitted || !strings.Contains(err.Error(), "the user esxid runs as") {
		t.Errorf("err = %v (class %d)", err, fault.ClassOf(err))
	}
}

func TestReadOnlyIsExplained(t *testing.T) {
	err := explain(&os.PathError{Op: "mkdir", Path: "/srv/images/x", Err: syscall.EROFS})
	if fault.ClassOf(err) != fault.CannotWrite || !strings.Contains(err.Error(), "mount it for writing") {
		t.Errorf("err = %v", err)
	}
}

// TestCancelled: a cancelled copy leaves nothing, and the next one works.
func TestCancelled(t *testing.T) {
	from, to := twoDevices(t)
	img := newImage(t, from)
	d := newDirectory(t, to)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := d.Publish(ctx, img, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	entries, err := os.ReadDir(filepath.Join(to, img.Dir))
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := d.Publish(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	check(t, filepath.Join(to, img.Dir))
}

func TestNewWantsAnAbsolutePath(t *testing.T) {
	if _, err := New(config.Target{Name: "local", Path: "images"}); fault.ClassOf(err) != fault.Config {
		t.Errorf("err = %v", err)
	}
}
