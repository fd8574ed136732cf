package nbd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/esxid/esxid/internal/fault"
)

func TestRecoverWithoutLeftovers(t *testing.T) {
	m := newMachine(t, "nbd0")
	if err := m.recover(t.Context(), m.lockDir); err != nil {
		t.Errorf("no lock directory: %v", err)
	}
	others := []string{"queue.json", "nbd0", "nbd.json", "nbd01.json", "nbd-1.json", "nbd99999.json"}
	for _, name := range others {
		writeFile(t, filepath.Join(m.lockDir, name), "{}")
	}
	if err := m.recover(t.Context(), m.lockDir); err != nil {
		t.Error(err)
	}
	files, err := os.ReadDir(m.lockDir)
	if err != nil || len(files) != len(others) {
		t.Errorf("files of others are gone: %v, %v", files, err)
	}
}

func TestRecover(t *testing.T) {
	const ours = "--description=esxid /builds/1/disk.raw"
	record := `{"disk": "/builds/1/disk.raw", "pid": 1}`
	tests := []struct {
		name   string
		record string
		server []string // arguments of a qemu-nbd that serves nbd0, beside --connect
		keep   bool     // the device
	}{
		{"only the record", record, nil, false},
		{"our server", record, []string{ours, "--a-future-option"}, false},
		{"server of another image", record, []string{"--description=esxid /builds/2/disk.raw"}, true},
		{"server without a description", record, []string{"/builds/1/disk.raw"}, true},
		{"empty record", "", []string{ours}, true},
		{"record of nothing", `{"disk": ""}`, []string{"--description=esxid "}, true},
		{"record is no JSON", "\x00\xff{", []string{ours}, true},
		{"record of 1 MiB", strings.Repeat(" ", 1<<20) + record, []string{ours}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, "nbd0")
			writeFile(t, filepath.Join(m.lockDir, "nbd0.json"), tt.record)
			writeFile(t, filepath.Join(m.lockDir, "nbd0.sock"), "")
			if tt.server != nil {
				m.serve(t, "nbd0", append([]string{"--connect=" + m.node("nbd0")}, tt.server...)...)
			}
			if err := m.recover(t.Context(), m.lockDir); err != nil {
				t.Error(err)
			}
			if m.free("nbd0") == tt.keep {
				t.Errorf("the device is free: %v, want %v", m.free("nbd0"), !tt.keep)
			}
			if files, err := filepath.Glob(m.lockDir + "/*"); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
}

// A record names its device by its file's name, so it cannot speak of another.
func TestRecoverOfAnotherDevice(t *testing.T) {
	m := newMachine(t, "nbd0", "nbd1")
	writeFile(t, filepath.Join(m.lockDir, "nbd0.json"), `{"disk": "/builds/1/disk.raw"}`)
	m.serve(t, "nbd1", "--connect="+m.node("nbd1"), "--description=esxid /builds/1/disk.raw")
	if err := m.recover(t.Context(), m.lockDir); err != nil {
		t.Error(err)
	}
	if m.free("nbd1") {
		t.Error("nbd1 was detached")
	}
}

func TestRecoverFails(t *testing.T) {
	m := newMachine(t, "nbd0")
	t.Setenv("FAKE_QEMU_NBD", "no disconnect")
	writeFile(t, filepath.Join(m.lockDir, "nbd0.json"), `{"disk": "/builds/1/disk.raw"}`)
	m.serve(t, "nbd0", "--connect="+m.node("nbd0"), "--description=esxid /builds/1/disk.raw")
	err := m.recover(t.Context(), m.lockDir)
	want := "run as root: qemu-nbd --disconnect " + m.node("nbd0")
	if err == nil || !strings.Contains(err.Error(), "which a killed esxid left attached") || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("err = %v, want %q", err, want)
	}
	if _, err := os.Stat(filepath.Join(m.lockDir, "nbd0.json")); err != nil {
		t.Errorf("the record for the next time: %v", err)
	}
}

// The lock directory belongs to a user with fewer rights than who attaches.
func TestHostileRecords(t *testing.T) {
	tests := []struct {
		name string
		make func(path, victim string) error
	}{
		{"symbolic link", func(path, victim string) error { return os.Symlink(victim, path) }},
		{"dangling link", func(path, victim string) error { return os.Symlink(victim+"2", path) }},
		{"FIFO", func(path, _ string) error { return syscall.Mkfifo(path, 0o600) }},
		{"directory", func(path, _ string) error { return os.Mkdir(path, 0o700) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, "nbd0")
			victim := filepath.Join(filepath.Dir(m.disk), "victim")
			writeFile(t, victim, "precious")
			if err := os.MkdirAll(m.lockDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(filepath.Join(m.lockDir, "nbd0.json"), victim); err != nil {
				t.Fatal(err)
			}
			if err := m.recover(t.Context(), m.lockDir); err == nil {
				t.Error("Recover took it for a record")
			}
			if _, err := m.attach(t.Context(), m.disk, Options{LockDir: m.lockDir}); err == nil || fault.ClassOf(err) == fault.TryLater {
				t.Errorf("Attach: %v", err)
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
				t.Errorf("victim: %q, %v", text, err)
			}
			if _, err := os.Stat(victim + "2"); err == nil {
				t.Error("a file was made through the link")
			}
		})
	}
}

// Whoever opened a record that its owner then removed must not own it.
func TestClaimOfRemovedRecord(t *testing.T) {
	dir := t.TempDir()
	first, err := claimDevice(dir, "nbd0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claimDevice(dir, "nbd0"); !errors.Is(err, errInUse) {
		t.Errorf("the second claim: %v", err)
	}
	late, err := os.Open(first.path)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if err := first.remove(); err != nil {
		t.Fatal(err)
	}
	if err := samePlainFile(late, first.path); !os.IsNotExist(err) {
		t.Errorf("removed: %v", err)
	}
	second, err := claimDevice(dir, "nbd0")
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	if err := samePlainFile(late, first.path); !os.IsNotExist(err) {
		t.Errorf("replaced: %v", err)
	}
}
