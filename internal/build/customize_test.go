package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/image"
)

func TestHaveRoom(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("cannot mount a small tmpfs (tests run as root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, diskName)
	disk, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	files := func(size int) []image.PayloadFile {
		return []image.PayloadFile{{Path: "curtin/x", Data: make([]byte, size)}}
	}
	if err := haveRoom(disk, files(2<<20)); err != nil {
		t.Errorf("2 MiB into 4: %v", err)
	}
	err = haveRoom(disk, files(4<<20))
	if fault.ClassOf(err) != fault.CannotWrite || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "5120 are needed: free some space") {
		t.Errorf("4 MiB into 4: %v", err)
	}
}

func TestCanCustomize(t *testing.T) {
	if err := CanCustomize(t.Context(), "direct"); err != nil {
		t.Errorf("mtools are installed here: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	err := CanCustomize(t.Context(), "direct")
	if fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "apt install mtools") {
		t.Errorf("err = %v", err)
	}
}
