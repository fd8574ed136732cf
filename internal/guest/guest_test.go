package guest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFiles(t *testing.T) {
	var paths []string
	for _, f := range Files() {
		paths = append(paths, f.Path)
	}
	want := []string{
		"curtin/curtin-hooks",
		"curtin/esxid.json",
		"curtin/firstboot/agent.py",
		"curtin/firstboot/cloudconfig.py",
		"curtin/firstboot/disks.py",
		"curtin/firstboot/firewall.py",
		"curtin/firstboot/host.py",
		"curtin/firstboot/identity.py",
		"curtin/firstboot/journal.py",
		"curtin/firstboot/maas.py",
		"curtin/firstboot/netconfig.py",
		"curtin/firstboot/network.py",
		"curtin/firstboot/ntp.py",
		"curtin/firstboot/restore.py",
		"curtin/firstboot/storage.py",
		"curtin/firstboot/userdata.py",
		"curtin/firstboot/vcenter.py",
		"curtin/firstboot/vendordata.py",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("files are %q, want %q", paths, want)
	}
}

func TestSettings(t *testing.T) {
	settings := func(s Settings) string { return string(s.Files()[1].Data) }
	if got := settings(Settings{}); got != "{\"unsupported\":\"error\"}\n" {
		t.Errorf("default settings are %q", got)
	}
	if got := settings(Settings{WarnUnsupported: true}); got != "{\"unsupported\":\"warn\"}\n" {
		t.Errorf("settings that warn are %q", got)
	}
	if Version() == (Settings{WarnUnsupported: true}).Version() {
		t.Error("another setting, but the same version")
	}
	if got := settings(Settings{VCenterCA: "-----BEGIN\n"}); got != "{\"unsupported\":\"error\",\"vcenter_ca\":\"-----BEGIN\\n\"}\n" {
		t.Errorf("settings with an authority are %q", got)
	}
	if v := Version(); len(v) != 12 || v != Version() {
		t.Errorf("version is %q", v)
	}
}

// python runs a Python program of tests/ and returns what it printed.
func python(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", append([]string{"-B"}, args...)...) // -B: no __pycache__ in the source
	cmd.Dir = "tests"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestHook(t *testing.T) {
	t.Parallel()
	if out, err := python(t, "-m", "unittest", "test_hook"); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestAgent(t *testing.T) {
	t.Parallel()
	if out, err := python(t, "-m", "unittest", "test_agent", "test_host", "test_identity", "test_maas", "test_network", "test_restore"); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestVendorData(t *testing.T) {
	t.Parallel()
	if out, err := python(t, "-m", "unittest", "test_cloudconfig", "test_userdata", "test_vcenter", "test_vendordata"); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestStorage(t *testing.T) {
	t.Parallel()
	if out, err := python(t, "-m", "unittest", "test_storage"); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestPython35(t *testing.T) {
	dir := t.TempDir()
	args := []string{"check_source.py"}
	for _, f := range Files() {
		if strings.HasSuffix(f.Path, ".json") {
			continue
		}
		path := filepath.Join(dir, f.Path)
		write(t, path, string(f.Data))
		args = append(args, path)
	}
	if out, err := python(t, args...); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestPython35CheckFindsFaults(t *testing.T) {
	tests := []struct{ source, want string }{
		{"x = 1\nprint(f'{x}')\n", ":2: Format strings"},
		{"(x := 1)\n", ":1: Assignment expressions"},
		{"x: int = 1\n", ":1: Variable annotation"},
		{"import yaml\n", ":1: imports yaml"},
		{"from http import client\n", ":1: imports http"},
		{"import subprocess\nsubprocess.run(['x'], capture_output=True)\n", ":2: subprocess has no capture_output"},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "x.py")
		write(t, path, tt.source)
		if out, err := python(t, "check_source.py", path); err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%q: %v, %q, want %q", tt.source, err, out, tt.want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
