package iso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("real.iso", "x")
	write("empty.iso", "")
	write("bundle.iso", zipMagic+strings.Repeat("x", 100_000))
	write("page.iso", "\n<!DOCTYPE html><html><title>Log in</title>")
	write("noise.iso", strings.Repeat("noise", 100_000))
	if err := os.Mkdir(path("directory.iso"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.iso", path("link.iso")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path("pipe.iso"), 0o644); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", path("socket.iso"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	huge, err := os.Create(path("huge.iso"))
	if err != nil {
		t.Fatal(err)
	}
	if err := huge.Truncate(maxImage + 1); err != nil {
		t.Fatal(err)
	}
	huge.Close()

	tests := []struct{ path, want string }{
		{path("missing.iso"), "no such file or directory"},
		{path("real.iso/below.iso"), "not a directory"},
		{path("directory.iso"), "it is a directory: give the ISO as a regular file"},
		{path("link.iso"), "it is a symbolic link: give"},
		{path("pipe.iso"), "it is a named pipe: give"},
		{path("socket.iso"), "it is a socket: give"},
		{"/dev/null", "it is a device: give"},
		{path("empty.iso"), "it is empty: copy or download it again"},
		{path("bundle.iso"), "it is a ZIP archive, perhaps an offline bundle"},
		{path("page.iso"), "it is a web page: the download failed"},
		{path("noise.iso"), "it is not an ISO 9660 image, or it is cut short"},
		{path("real.iso"), "it is not an ISO 9660 image, or it is cut short"},
		{path("huge.iso"), "it has 68719476737 bytes, no installer ISO has more"},
	}
	for _, tt := range tests {
		t.Run(filepath.Base(tt.path), func(t *testing.T) {
			_, err := Open(tt.path)
			checkError(t, err, fault.Input, tt.want)
			if err != nil && !strings.Contains(err.Error(), tt.path) {
				t.Errorf("the error does not name the file: %v", err)
			}
		})
	}
}

// TestOpenUnreadable opens a file without the right to read it, as a user other
// than root.
func TestOpenUnreadable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret.iso")
	if err := os.WriteFile(path, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	result := make(chan error)
	go func() {
		// The user id for file access belongs to the thread; a thread that
		// is still locked when its goroutine ends is thrown away.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0); errno != 0 {
			result <- errno
			return
		}
		_, err := Open(path)
		result <- err
	}()
	checkError(t, <-result, fault.NotPermitted, path+": permission denied: make the file, and the directories above it, readable")
}

func TestReadFile(t *testing.T) {
	img, err := inMemory(sampleISO(t))
	if err != nil {
		t.Fatal(err)
	}
	want := testdata(t, "bootcfg.8.0.3.txt")
	want = replaceLine(want, "build=", "build=8.0.3-0.70.24677879")
	for _, path := range []string{"BOOT.CFG", "/boot.cfg", "efi/Boot/BOOT.cfg"} {
		got, err := img.ReadFile(path, int64(len(want)))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if got, err := img.ReadFile("VMWARE-ESX-BASE-OSL.TXT", 100); err != nil || !strings.HasSuffix(string(got), "licences\n") {
		t.Errorf("long name: %q, %v", got, err)
	}
	if got, err := img.ReadFile("upgrade/extlinux", 100); err != nil || string(got) != "content of UPGRADE/EXTLINUX\n" {
		t.Errorf("name without extension: %q, %v", got, err)
	}
	_, err = img.ReadFile("BOOT.CFG", int64(len(want))-1)
	checkError(t, err, fault.Input, "cannot read /BOOT.CFG in test.iso: it has")
	for path, want := range map[string]string{
		"EFI/BOOT":      "cannot read /EFI/BOOT in test.iso: it is a directory",
		"EFI/NO.CFG":    "cannot find /EFI/NO.CFG in test.iso",
		"BOOT.CFG/NO":   "cannot find /BOOT.CFG/NO in test.iso",
		"../BOOT.CFG":   "cannot find",
		"EFI//BOOT.CFG": "cannot find",
		"":              "cannot find / in test.iso",
	} {
		_, err := img.ReadFile(path, 1<<20)
		checkError(t, err, fault.Input, want)
	}
}

func TestSHA256(t *testing.T) {
	content := append(sampleISO(t), bytes.Repeat([]byte("tail"), 700_001)...)
	img := openISO(t, "a.iso", content)
	var last, calls int64
	got, err := img.SHA256(t.Context(), func(done, total int64) {
		if done <= last || total != int64(len(content)) {
			t.Errorf("progress %d after %d of %d", done, last, total)
		}
		last = done
		calls++
	})
	sum := sha256.Sum256(content)
	if err != nil || got != hex.EncodeToString(sum[:]) || last != int64(len(content)) || calls < 3 {
		t.Errorf("%s, %v, %d calls up to %d", got, err, calls, last)
	}
	if again, err := img.SHA256(t.Context(), nil); err != nil || again != got {
		t.Errorf("second time: %s, %v", again, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	if _, err := img.SHA256(ctx, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestUnchanged(t *testing.T) {
	later := time.Now().Add(time.Hour)
	tests := []struct {
		name   string
		change func(path string) error
		want   string
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"touched", func(path string) error { return os.Chtimes(path, later, later) }, "it changed while it was read"},
		{"written to", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("x"), 40_000)
			return errors.Join(err, os.Chtimes(path, later, later))
		}, "it changed while it was read"},
		{"longer", func(path string) error { return os.Truncate(path, 10<<20) }, "it changed while it was read"},
		{"shorter", func(path string) error { return os.Truncate(path, 100_000) }, "it changed while it was read"},
		{"replaced", func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(path+".new", b, 0o644), os.Rename(path+".new", path))
		}, "it changed while it was read"},
		{"removed", os.Remove, "it was moved or removed while it was read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img := openISO(t, "a.iso", sampleISO(t))
			if err := tt.change(img.path); err != nil {
				t.Fatal(err)
			}
			err := img.Unchanged()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			checkError(t, err, fault.Input, tt.want)
			if _, err := img.SHA256(t.Context(), nil); fault.ClassOf(err) != fault.Input {
				t.Errorf("the checksum of a changed file gives %v", err)
			}
		})
	}
}
