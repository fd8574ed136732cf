package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/test/esxisim"
)

// TestChangedWhileRead changes an ISO in the middle of its identification.
func TestChangedWhileRead(t *testing.T) {
	original, err := shared.iso(esxisim.Options{Version: "6.7", Build: "8169922", PayloadMiB: 4})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(path string) error{
		"touched":  func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)) },
		"cut":      func(path string) error { return os.Truncate(path, 4<<20) },
		"replaced": func(path string) error { return os.Rename(path+".other", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.iso")
			for _, to := range []string{path, path + ".other"} {
				if err := copyFile(original, to); err != nil {
					t.Fatal(err)
				}
			}
			changed := false
			_, warnings, err := identify(t.Context(), path, func(done, _ int64) {
				if done > 0 && !changed {
					changed = true
					if err := change(path); err != nil {
						t.Error(err)
					}
				}
			})
			if !changed {
				t.Fatal("there was no progress to change the ISO at")
			}
			if fault.ClassOf(err) != fault.Input || !strings.Contains(err.Error(), path+": it changed while it was read: wait until it is copied completely") {
				t.Errorf("err = %v, warnings %q", err, warnings)
			}
		})
	}
}
