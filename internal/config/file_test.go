package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A FIFO that nobody writes to must not keep the caller waiting, and what is too long
// must not be cut.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	fits, long, fifo := filepath.Join(dir, "fits"), filepath.Join(dir, "long"), filepath.Join(dir, "fifo")
	for path, text := range map[string]string{fits: "12345678", long: "123456789"} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, mode, err := ReadFile(fits, 8); string(text) != "12345678" || mode != 0o640 || err != nil {
		t.Errorf("%q, %v, %v", text, mode, err)
	}
	for path, want := range map[string]string{
		long:                         long + " has more than 8 bytes",
		fifo:                         fifo + " is not a regular file",
		dir:                          dir + " is not a regular file",
		filepath.Join(dir, "absent"): "cannot open " + filepath.Join(dir, "absent") + ": no such file",
	} {
		text, _, err := ReadFile(path, 8)
		if err == nil || !strings.HasPrefix(err.Error(), want) || text != nil {
			t.Errorf("%s: %q, %v, want %q", filepath.Base(path), text, err, want)
		}
	}
}
