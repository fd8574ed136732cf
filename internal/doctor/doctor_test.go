package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/publish"
)

type target struct{ err error }

func (target) Name() string                  { return "prod" }
func (target) Address() string               { return "here" }
func (t target) Check(context.Context) error { return t.err }
func (target) Publish(context.Context, publish.Image, func(done, total int64)) (publish.Result, error) {
	return publish.Result{}, errors.New("doctor must not publish")
}

func TestMemory(t *testing.T) {
	tests := []struct {
		name, text string
		want       Level
	}{
		{"enough", "MemTotal: 99 kB\nMemAvailable:   16777216 kB\n", OK},
		{"for 6.x", "MemAvailable:   6291456 kB\n", Warning},
		{"too little", "MemAvailable:   4194304 kB\n", Problem},
		{"unknown", "MemTotal: 99 kB\n", Warning},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meminfo")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if f := memory(path); f.Level != tt.want {
				t.Errorf("got %+v, want %s", f, tt.want)
			}
		})
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       Level
		detail     string
	}{
		{"good", dir, OK, "can be used"},
		{"missing", filepath.Join(dir, "none"), Warning, "the service makes it"},
		{"a file", file, Problem, "not a directory"},
		{"open to all", open, Warning, "chmod o="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if f := directory(tt.path, true, tt.name == "open to all"); f.Level != tt.want || !strings.Contains(f.Detail, tt.detail) {
				t.Errorf("got %+v, want %s %q", f, tt.want, tt.detail)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	if f := publishing(t.Context(), nil); len(f) != 1 || f[0].Level != Warning {
		t.Errorf("no targets: %+v", f)
	}
	f := publishing(t.Context(), []publish.Publisher{target{}, target{errors.New("the key is wrong")}})
	if len(f) != 2 || f[0].Level != OK || f[1].Level != Problem || f[1].Detail != "the key is wrong" {
		t.Errorf("got %+v", f)
	}
}

func TestMissingToolsSayWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, f := range tools(t.Context(), config.Default()) {
		if f.Level != Problem || !strings.Contains(f.Detail, "apt install") {
			t.Errorf("got %+v", f)
		}
	}
}
