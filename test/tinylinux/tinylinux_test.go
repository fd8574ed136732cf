package tinylinux

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestModulesAreInLoadOrder(t *testing.T) {
	kernel, err := Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := kernel.Modules("nbd max_part=16", "vfat", "loop", "xhci-pci")
	if err != nil {
		t.Fatal(err)
	}
	list := string(files[len(files)-1].Data)
	if strings.Index(list, "fat.ko") > strings.Index(list, "vfat.ko") || strings.Index(list, "xhci_hcd.ko") > strings.Index(list, "xhci_pci.ko") {
		t.Errorf("a module stands before one it depends on:\n%s", list)
	}
	if !strings.Contains(list, "nbd.ko max_part=16\n") {
		t.Errorf("the parameter is lost:\n%s", list)
	}
	if strings.Count(list, "\n") != len(files)-1 {
		t.Errorf("%d files, list:\n%s", len(files), list)
	}
	if _, err := kernel.Modules("no_such_module"); err == nil {
		t.Error("a module that does not exist was found")
	}
}

func TestDependencies(t *testing.T) {
	kernel, err := Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	module, err := readModule(kernel.modules["btrfs"])
	if err != nil {
		t.Fatal(err)
	}
	needs, wants, err := dependencies(module)
	if err != nil || !slices.Contains(needs, "raid6_pq") || !slices.Contains(wants, "crc32c") {
		t.Errorf("btrfs needs %v, wants %v, %v; expected raid6_pq and crc32c among them", needs, wants, err)
	}
	if _, _, err := dependencies([]byte("not an ELF file")); err == nil {
		t.Error("something that is no module was accepted")
	}
}

// cpio is the judge of the archive.
func TestInitramfs(t *testing.T) {
	var archive bytes.Buffer
	err := WriteInitramfs(&archive, []File{
		{Path: "a/b/one", Mode: 0o755, Data: []byte("1")},
		{Path: "/a/two", Mode: 0o600, Data: []byte("four")},
		{Path: "link", Mode: os.ModeSymlink, Data: []byte("a/two")},
		{Path: "empty", Mode: 0o644},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command("cpio", "--extract", "--quiet")
	cmd.Dir = dir
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	for name, want := range map[string]string{"a/b/one": "1", "link": "four", "empty": ""} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "a/two")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("a/two: %v, %v; want mode 0600", fi, err)
	}
}
