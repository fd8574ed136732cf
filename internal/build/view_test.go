package build

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/esxid/esxid/internal/fault"
)

func TestOpenConsole(t *testing.T) {
	const id = "8.0.3-1-00000000"
	s, err := OpenStore(filepath.Join(t.TempDir(), "builds"), filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, text string) {
		path := filepath.Join(s.Dir(id), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(text string) {
		t.Helper()
		f, err := s.OpenConsole(id)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := io.ReadAll(f); err != nil || string(got) != text {
			t.Errorf("got %q, %v; want %q", got, err, text)
		}
	}
	if _, err := s.OpenConsole(id); fault.ClassOf(err) != fault.TryLater {
		t.Errorf("without a log: %v", err)
	}
	put("console.log", "the last one")
	want("the last one")
	put(".install/console.log", "the running one")
	want("the running one")

	if err := os.RemoveAll(s.Dir(id)); err != nil {
		t.Fatal(err)
	}
	put("secret", "secret")
	if err := os.Symlink("secret", filepath.Join(s.Dir(id), "console.log")); err != nil {
		t.Fatal(err)
	}
	if f, err := s.OpenConsole(id); err == nil {
		f.Close()
		t.Error("followed a symbolic link")
	}
}
