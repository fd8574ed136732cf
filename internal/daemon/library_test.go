package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/iso"
)

// The operator is told to drop the original of a damaged ISO again; that must
// not be taken for a second copy.
func TestDamagedISOIsNotKnown(t *testing.T) {
	r := newRig(t, t.TempDir())
	lib, err := openLibrary(filepath.Join(r.cfg.StateDir, "isos"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		damage func(sum string) error
		known  bool
	}{
		{"whole", func(string) error { return nil }, true},
		{"cut short", func(sum string) error { return os.Truncate(lib.isoPath(sum), 1) }, false},
		{"no ISO", func(sum string) error { return os.Remove(lib.isoPath(sum)) }, false},
		{"no record", func(sum string) error { return os.Remove(lib.recordPath(sum)) }, false},
		{"damaged record", func(sum string) error { return os.WriteFile(lib.recordPath(sum), []byte("{"), 0o600) }, false},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sum := strings.Repeat(string(rune('a'+i)), 64)
			r.addEntry(entry{Info: iso.Info{Size: 3, SHA256: sum, Version: "8.0.3", Build: "24280767"}})
			if err := tt.damage(sum); err != nil {
				t.Fatal(err)
			}
			if lib.has(sum) != tt.known {
				t.Errorf("has = %v", !tt.known)
			}
		})
	}
}

func TestDirectoriesAndLeftovers(t *testing.T) {
	dir := t.TempDir()
	first, err := newRig(t, dir).prepare()
	if err != nil {
		t.Fatal(err)
	}
	first()
	r := newRig(t, dir)
	if info, err := os.Stat(r.incoming()); err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o775 {
		t.Errorf("incoming: %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(r.incoming(), 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if info, err := os.Stat(r.incoming()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the operator's mode was changed: %v, %v", info.Mode(), err)
	}
	leftovers := []string{filepath.Join(r.library.dir, ".move-1"), filepath.Join(r.rejected(), ".a.iso.reason.2"), filepath.Join(r.rejected(), removed+"1", "inside")}
	for _, path := range leftovers {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range leftovers {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
}

func TestLongNamesAreRejected(t *testing.T) {
	r := newRig(t, t.TempDir())
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	name := strings.Repeat("x", 250) + ".iso"
	if err := os.WriteFile(filepath.Join(r.incoming(), name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.reject(t.Context(), filepath.Join(r.incoming(), name), "is empty")
	left, err := os.ReadDir(r.rejected())
	if err != nil || len(left) != 2 {
		t.Errorf("rejected: %v, %v", left, err)
	}
}
