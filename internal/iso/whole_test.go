package iso

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhole(t *testing.T) {
	full, err := Single("TEST", "KS.CFG", bytes.Repeat([]byte("x"), 10_000))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"whole", full, ""},
		{"longer", append(bytes.Clone(full), 1), ""},
		{"one byte short", full[:len(full)-1], "bytes are there"},
		{"descriptors only", full[:17*sectorSize], "bytes are there"},
		{"not an ISO", bytes.Repeat([]byte("text "), 20_000), ""},
		{"short", []byte("x"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.iso")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			err := Whole(path)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Whole = %v, want %q", err, tt.want)
			}
		})
	}
}
