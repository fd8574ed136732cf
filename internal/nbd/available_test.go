package nbd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// status is what /proc/self/status says for root.
const status = "Name:\tesxid\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\nCapBnd:\t0000000000000000\n"

// newLoadedMachine is one with nbd in its kernel, whose /proc can be changed.
func newLoadedMachine(t *testing.T) machine {
	t.Helper()
	m := newMachine(t, "nbd0", "nbd1")
	remove(t, m.path("proc"))
	writeFile(t, m.path("proc/self/status"), status)
	link(t, "pid:[4026531836]", m.path("proc/self/ns/pid"))
	writeFile(t, m.path("sys/module/nbd/refcnt"), "0\n")
	// A module that is loaded needs nobody to load it.
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+m.path("no-bus"))
	return m
}

func TestAvailable(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, m machine)
		class   fault.Class // 0: available
		want    string
	}{
		{"yes", func(*testing.T, machine) {}, 0, ""},
		{"one device in use", func(t *testing.T, m machine) { writeFile(t, m.path("sys/block/nbd0/size"), "8\n") }, 0, ""},
		{"all devices in use", func(t *testing.T, m machine) {
			writeFile(t, m.path("sys/block/nbd0/size"), "8\n")
			writeFile(t, m.path("sys/block/nbd1/pid"), "1\n")
		}, fault.TryLater, "all 2 nbd devices are in use"},
		{"no qemu-nbd", func(t *testing.T, _ machine) { t.Setenv("PATH", t.TempDir()) }, fault.Unavailable, "apt install qemu-utils"},
		{"not root", func(t *testing.T, m machine) {
			writeFile(t, m.path("proc/self/status"), "CapEff:\t0000000000000400\n")
		}, fault.NotPermitted, "CAP_SYS_ADMIN: run as root"},
		{"status without capabilities", func(t *testing.T, m machine) {
			writeFile(t, m.path("proc/self/status"), "Name:\tesxid\nCapEff:\tmany\n")
		}, fault.NotPermitted, "CAP_SYS_ADMIN"},
		{"no proc", func(t *testing.T, m machine) { remove(t, m.path("proc/self/status")) }, fault.Unavailable, "no such file"},
		{"container", func(t *testing.T, m machine) {
			remove(t, m.path("proc/self/ns/pid"))
			link(t, "pid:[4026532999]", m.path("proc/self/ns/pid"))
		}, fault.Unavailable, "in a container: run on the host"},
		{"no node", func(t *testing.T, m machine) { remove(t, m.node("nbd0")) }, fault.Unavailable, "no such file or directory: check that /dev is the host's"},
		{"no devices", func(t *testing.T, m machine) {
			remove(t, m.path("sys/block/nbd0"))
			remove(t, m.path("sys/block/nbd1"))
		}, fault.TryLater, "no nbd devices: check the parameter nbds_max"},
		{"node cannot be opened", func(t *testing.T, m machine) {
			remove(t, m.node("nbd0"))
			if err := os.Mkdir(m.node("nbd0"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, fault.Unavailable, "the rights on /dev/nbd*"},
		{"no sysfs", func(t *testing.T, m machine) { remove(t, m.path("sys/block")) }, fault.Unavailable, "cannot list nbd devices"},
		{"module not loaded, no D-Bus", func(t *testing.T, m machine) { remove(t, m.path("sys/module/nbd")) }, fault.Unavailable,
			"the kernel module nbd is not loaded and systemd cannot be asked to load it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newLoadedMachine(t)
			tt.prepare(t, m)
			checkUnavailable(t, m.available(t.Context()), tt.class, tt.want)
		})
	}
}

// The node of a device that has just come with its module appears a little later.
func TestLateNode(t *testing.T) {
	m := newLoadedMachine(t)
	m.limits.node = 10 * time.Second
	remove(t, m.node("nbd0"))
	made := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { made <- os.WriteFile(m.node("nbd0"), nil, 0o600) })
	if err := errors.Join(m.available(t.Context()), <-made); err != nil {
		t.Error(err)
	}
}

// checkUnavailable checks an error of Available, which always says what can be
// done instead.
func checkUnavailable(t *testing.T, err error, class fault.Class, want string) {
	t.Helper()
	if class == 0 {
		if err != nil {
			t.Errorf("err = %v, want none", err)
		}
		return
	}
	if fault.ClassOf(err) != class || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), instead) {
		t.Errorf("err = %v (class %d), want %q (class %d) and what to do instead", err, fault.ClassOf(err), want, class)
	}
}

// The two reasons why modprobe can have failed.
func TestNoModule(t *testing.T) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	m := newLoadedMachine(t)
	checkUnavailable(t, m.noModule(), fault.Unavailable, "the modules of the running kernel "+release+" are not installed: reboot")
	writeFile(t, m.path("lib/modules", release, "modules.dep"), "")
	checkUnavailable(t, m.noModule(), fault.Unavailable, "install linux-modules-extra-"+release)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}
