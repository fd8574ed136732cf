package nbd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/fault"
)

func TestServerArgs(t *testing.T) {
	got := serverArgs("/dev/nbd3", "/var/lib/esxid/builds/a b/disk.raw", "/run/esxid/nbd3.sock")
	want := []string{
		"--connect=/dev/nbd3",
		"--description=esxid /var/lib/esxid/builds/a b/disk.raw",
		"--verbose",
		"--socket=/run/esxid/nbd3.sock",
		"--format=raw",
		"--discard=ignore",
		"--detect-zeroes=off",
		"--cache=writeback",
		"/proc/self/fd/3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAttach(t *testing.T) {
	m := newMachine(t, "nbd0", "nbd1", "nbd10", "nbd2")
	if err := connect(m.path("sys/block/nbd0"), 1, 8); err != nil { // somebody else's
		t.Fatal(err)
	}
	d, err := m.attach(t.Context(), m.disk, Options{LockDir: m.lockDir})
	if err != nil {
		t.Fatal(err)
	}
	if d.Path != m.node("nbd1") || m.sectors("nbd1") != 4 {
		t.Errorf("attached to %s with %d sectors", d.Path, m.sectors("nbd1"))
	}
	record, err := os.ReadFile(filepath.Join(m.lockDir, "nbd1.json"))
	want := `{"disk":"` + m.disk + `","pid":` + strconv.Itoa(os.Getpid()) + "}\n"
	if err != nil || string(record) != want {
		t.Errorf("record %q, %v; want %q", record, err, want)
	}
	if err := m.recover(t.Context(), m.lockDir); err != nil || m.free("nbd1") {
		t.Errorf("Recover took a device in use (%v)", err)
	}
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
	if err := d.Detach(); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if err := free(m.path("sys/block/nbd0")); err != nil {
		t.Errorf("nbd0 was touched: %v", err)
	}
	m.wantClean(t)
}

// Each of those who attach at the same time gets a device, or is told to try
// later.
func TestAttachAtOnce(t *testing.T) {
	m := newMachine(t, "nbd0", "nbd1", "nbd2")
	var mu sync.Mutex
	var wg sync.WaitGroup
	devices := map[string]*Device{}
	refused := 0
	for range 5 {
		wg.Go(func() {
			d, err := m.attach(t.Context(), m.disk, Options{LockDir: m.lockDir})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && devices[d.Path] == nil:
				devices[d.Path] = d
			case fault.ClassOf(err) == fault.TryLater && strings.Contains(err.Error(), "all 3 nbd devices are in use"):
				refused++
			default:
				t.Errorf("%v, %v", d, err)
			}
		})
	}
	wg.Wait()
	if len(devices) != 3 || refused != 2 {
		t.Errorf("%d attached, %d refused; want 3 and 2", len(devices), refused)
	}
	for _, d := range devices {
		if err := d.Detach(); err != nil {
			t.Error(err)
		}
	}
	m.wantClean(t)
}

func TestAttachRefusesWhatIsNoDisk(t *testing.T) {
	m := newMachine(t, "nbd0")
	dir := filepath.Dir(m.disk)
	file := func(name, text string) string {
		writeFile(t, filepath.Join(dir, name), text)
		return filepath.Join(dir, name)
	}
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.Symlink(m.disk, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path, want string
	}{
		{"missing", filepath.Join(dir, "missing"), "no such file"},
		{"empty", file("empty", ""), "not a disk image"},
		{"half a sector", file("half", strings.Repeat("x", 700)), "not a disk image"},
		{"symbolic link", link, "too many levels of symbolic links"},
		{"FIFO", fifo, "not a disk image"},
		{"directory", dir, "is a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := m.attach(t.Context(), tt.path, Options{LockDir: m.lockDir})
			if err == nil || !strings.Contains(err.Error(), "cannot attach the disk: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
		})
	}
	m.wantClean(t)
}

func TestAttachFails(t *testing.T) {
	tests := []struct {
		behaviour string
		prepare   func(t *testing.T, m *machine)
		want      string
	}{
		{"no socket", nil, "qemu-nbd: exit status 1: qemu-nbd: Failed to set NBD socket"},
		{"mute", func(_ *testing.T, m *machine) { m.limits.connect = 50 * time.Millisecond }, "qemu-nbd does not connect it: not within 50ms"},
		{"taken nbd0", nil, "all 1 nbd devices are in use"},
		{"", func(t *testing.T, _ *machine) { t.Setenv("PATH", t.TempDir()) }, "apt install qemu-utils"},
		{"", func(t *testing.T, m *machine) { os.Remove(m.node("nbd0")) }, "no such file"},
		{"", func(t *testing.T, m *machine) {
			m.limits.connect = 50 * time.Millisecond
			udev, err := os.Open(m.node("nbd0"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { udev.Close() })
			if err := syscall.Flock(int(udev.Fd()), syscall.LOCK_SH); err != nil {
				t.Fatal(err)
			}
		}, "which another program may have locked: not within 50ms"},
		{"", func(t *testing.T, m *machine) { m.lockDir = filepath.Join(m.disk, "run") }, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			m := newMachine(t, "nbd0")
			t.Setenv("FAKE_QEMU_NBD", tt.behaviour)
			if tt.prepare != nil {
				tt.prepare(t, &m)
			}
			_, err := m.attach(t.Context(), m.disk, Options{LockDir: m.lockDir})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v, want %q on one line", err, tt.want)
			}
			if tt.behaviour == "taken nbd0" {
				if err := free(m.path("sys/block/nbd0")); err != nil {
					t.Error(err)
				}
			}
			m.wantClean(t)
		})
	}
}

// A device that another program sets up at the same moment is left to it.
func TestAttachTriesTheNextDevice(t *testing.T) {
	m := newMachine(t, "nbd0", "nbd1")
	t.Setenv("FAKE_QEMU_NBD", "taken nbd0")
	d, err := m.attach(t.Context(), m.disk, Options{LockDir: m.lockDir})
	if err != nil {
		t.Fatal(err)
	}
	if d.Path != m.node("nbd1") || m.server("nbd0") != 1 {
		t.Errorf("attached to %s; nbd0 is served by %d, want 1", d.Path, m.server("nbd0"))
	}
	if err := errors.Join(d.Detach(), free(m.path("sys/block/nbd0"))); err != nil {
		t.Error(err)
	}
	m.wantClean(t)
}

func TestContextEnds(t *testing.T) {
	m := newMachine(t, "nbd0")
	ctx, cancel := context.WithCancel(t.Context())
	d, err := m.attach(ctx, m.disk, Options{LockDir: m.lockDir})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if m.free("nbd0") {
		t.Error("the device went with the context")
	}
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
	m.wantClean(t)

	t.Setenv("FAKE_QEMU_NBD", "mute")
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := m.attach(ctx, m.disk, Options{LockDir: m.lockDir}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	if took := time.Since(start); took > m.limits.disconnect {
		t.Errorf("a server that is not connected was waited for: %v", took)
	}
	m.wantClean(t)
}

func TestDetachFails(t *testing.T) {
	tests := []struct {
		behaviour string
		want      string // "": it does not
		attached  bool   // afterwards
	}{
		{"no disconnect", "", false}, // the server is ended instead
		{"dies", "qemu-nbd ended while ", false},
		{"kernel holds on", "still in use (not within 3s): when nothing uses it any more, run: qemu-nbd --disconnect ", true},
	}
	for _, tt := range tests {
		t.Run(tt.behaviour, func(t *testing.T) {
			m := newMachine(t, "nbd0")
			m.limits.disconnect = 3 * time.Second
			t.Setenv("FAKE_QEMU_NBD", tt.behaviour)
			d, err := m.attach(t.Context(), m.disk, Options{LockDir: m.lockDir})
			if err != nil {
				t.Fatal(err)
			}
			if tt.behaviour == "dies" {
				if err := syscall.Kill(d.server.Pid(), syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				<-d.server.Done()
			}
			err = d.Detach()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
			if !tt.attached {
				m.wantClean(t)
				return
			}
			if _, err := os.Stat(filepath.Join(m.lockDir, "nbd0.json")); err != nil {
				t.Errorf("the record that Recover needs: %v", err)
			}
		})
	}
}
