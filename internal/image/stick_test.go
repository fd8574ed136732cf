package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNewStick(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stick.img")
	ks := bytes.Repeat([]byte("vmaccepteula\n"), 1000)
	if err := NewStick(t.Context(), path, "KS.CFG", ks); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != 40*mib || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if out := runTool(t, "parted", "-ms", path, "unit", "s", "print"); !strings.Contains(out, ":msdos:") || !strings.Contains(out, "1:2048s:81919s:79872s:fat32") {
		t.Errorf("parted sees:\n%s", out)
	}
	stick := part{number: 1, first: 2048, last: 81919, fat: 32}
	fsck(t, stick, path)
	if got := runTool(t, "mtype", "-i", stick.at(path), "::/KS.CFG"); got != string(ks) {
		t.Errorf("KS.CFG has %d bytes, want %d", len(got), len(ks))
	}
	f := openFile(t, stick.extract(t, path))
	root, err := f.root()
	if err != nil || f.bits != 32 || len(root) != 1 || root[0].short != "KS.CFG" || root[0].name != "KS.CFG" {
		t.Errorf("FAT%d, root %+v, %v", f.bits, root, err)
	}
	again := filepath.Join(t.TempDir(), "stick.img")
	if err := NewStick(t.Context(), again, "KS.CFG", ks); err != nil || hashOf(t, again, 0, 40*mib) != hashOf(t, path, 0, 40*mib) {
		t.Errorf("the same input makes another stick: %v", err)
	}
}

func TestNewStickRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"", "a/b", "*", "x:y"} {
		if err := NewStick(t.Context(), filepath.Join(dir, "stick"), name, nil); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	if err := NewStick(t.Context(), filepath.Join(dir, "stick"), "KS.CFG", make([]byte, 40*mib)); err == nil {
		t.Error("40 MiB fit on a stick of 40")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
