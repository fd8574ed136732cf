package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/esxid/esxid/internal/fault"
)

func TestWorkDirectoryOfSomebodyElse(t *testing.T) {
	tests := []struct {
		name string
		make func(dir string) error
		ok   bool
	}{
		{"none", func(string) error { return nil }, true},
		{"ours", func(dir string) error { return os.Mkdir(dir, 0o700) }, true},
		{"open to all", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, 0o777)
		}, false},
		{"link", func(dir string) error { return os.Symlink(t.TempDir(), dir) }, false},
		{"file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := t.TempDir()
			if err := tt.make(filepath.Join(out, ".esxid")); err != nil {
				t.Fatal(err)
			}
			w, err := openWork(out)
			if err == nil {
				w.close()
			}
			if (err == nil) != tt.ok || !tt.ok && fault.ClassOf(err) != fault.NotPermitted {
				t.Errorf("err = %v", err)
			}
		})
	}
}
