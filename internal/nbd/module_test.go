package nbd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	godbus "github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/test/privatebus"
)

// manager stands in for systemd's Manager object
// (https://www.freedesktop.org/software/systemd/man/org.freedesktop.systemd1.html).
type manager struct {
	conn   *godbus.Conn
	answer func(verb string) error // nil: the job ends; errSilent: it does not

	mu    sync.Mutex
	calls []string
}

var errSilent = errors.New("the job does not end")

func startManager(t *testing.T, answer func(verb string) error) *manager {
	t.Helper()
	conn, err := godbus.Connect(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &manager{conn: conn, answer: answer}
	if err := conn.Export(m, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName("org.freedesktop.systemd1", 0); err != nil || reply != godbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return m
}

// StartUnit is a method on D-Bus.
func (m *manager) StartUnit(unit, mode string) (godbus.ObjectPath, *godbus.Error) {
	return m.job("start", unit, mode)
}

// StopUnit is a method on D-Bus.
func (m *manager) StopUnit(unit, mode string) (godbus.ObjectPath, *godbus.Error) {
	return m.job("stop", unit, mode)
}

func (m *manager) job(verb, unit, mode string) (godbus.ObjectPath, *godbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, verb+" "+unit+" "+mode)
	id := uint32(len(m.calls))
	path := godbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", id))
	err := m.answer(verb)
	var refusal *godbus.Error
	switch {
	case errors.As(err, &refusal):
		return "", refusal
	case err == nil:
		err = m.conn.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", id, path, unit, "done")
		if err != nil {
			return "", godbus.MakeFailedError(err)
		}
	}
	return path, nil
}

func TestModuleIsLoadedBySystemd(t *testing.T) {
	refuse := func(name string) error { return godbus.NewError(name, []any{"because"}) }
	const start, stop = "start modprobe@nbd.service replace", "stop modprobe@nbd.service replace"
	tests := []struct {
		name   string
		answer func(load func(), bus *privatebus.Bus) func(verb string) error
		calls  []string
		class  fault.Class
		want   string
	}{
		{
			"loaded",
			func(load func(), _ *privatebus.Bus) func(string) error {
				return func(string) error { load(); return nil }
			},
			[]string{start}, 0, "",
		},
		{
			"the unit is active since an earlier load",
			func(load func(), _ *privatebus.Bus) func(string) error {
				stopped := false
				return func(verb string) error {
					if verb == "start" && stopped {
						load()
					}
					stopped = verb == "stop"
					return nil
				}
			},
			[]string{start, stop, start}, 0, "",
		},
		{
			"modprobe fails, which the unit hides",
			func(func(), *privatebus.Bus) func(string) error { return func(string) error { return nil } },
			[]string{start, stop, start}, fault.Unavailable, "reboot if the kernel was upgraded",
		},
		{
			"polkit says no",
			func(func(), *privatebus.Bus) func(string) error {
				return func(string) error { return refuse("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired") }
			},
			[]string{start}, fault.NotPermitted, "systemd does not let this user start modprobe@nbd.service: because: run as root: modprobe nbd",
		},
		{
			"the bus says no",
			func(func(), *privatebus.Bus) func(string) error {
				return func(string) error { return refuse("org.freedesktop.DBus.Error.AccessDenied") }
			},
			[]string{start}, fault.NotPermitted, "does not let this user",
		},
		{
			"an old systemd",
			func(func(), *privatebus.Bus) func(string) error {
				return func(string) error { return refuse("org.freedesktop.systemd1.NoSuchUnit") }
			},
			[]string{start}, fault.Unavailable, "systemd cannot start modprobe@nbd.service: because: run as root: modprobe nbd",
		},
		{
			"the job does not end",
			func(func(), *privatebus.Bus) func(string) error { return func(string) error { return errSilent } },
			[]string{start}, fault.Unavailable, "systemd does not finish modprobe@nbd.service: context deadline exceeded",
		},
		{
			"the bus goes away",
			func(_ func(), bus *privatebus.Bus) func(string) error {
				return func(string) error {
					// After the reply, so that it is the job's end that is lost.
					time.AfterFunc(500*time.Millisecond, func() { bus.Process.Process.Kill() })
					return errSilent
				}
			},
			[]string{start}, fault.Unavailable, "the connection to systemd was lost while it ran modprobe@nbd.service",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newLoadedMachine(t)
			if tt.name == "the job does not end" {
				m.limits.module = 3 * time.Second
			}
			module := m.path("sys/module/nbd")
			remove(t, module)
			bus := privatebus.Start(t)
			systemd := startManager(t, tt.answer(func() { os.MkdirAll(module, 0o755) }, bus))
			checkUnavailable(t, m.available(t.Context()), tt.class, tt.want)
			systemd.mu.Lock()
			defer systemd.mu.Unlock()
			if !slices.Equal(systemd.calls, tt.calls) {
				t.Errorf("calls %q, want %q", systemd.calls, tt.calls)
			}
		})
	}
}

// A bus that takes connections and says nothing must not hang a build.
func TestSilentBus(t *testing.T) {
	m := newLoadedMachine(t)
	m.limits.module = 100 * time.Millisecond
	remove(t, m.path("sys/module/nbd"))
	dir, err := os.MkdirTemp("", "bus-*") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+listener.Addr().String())
	checkUnavailable(t, m.available(t.Context()), fault.Unavailable, "systemd cannot be asked to load it")
}

// A bus without systemd, as in many containers.
func TestBusWithoutSystemd(t *testing.T) {
	m := newLoadedMachine(t)
	remove(t, m.path("sys/module/nbd"))
	privatebus.Start(t)
	err := m.available(t.Context())
	checkUnavailable(t, err, fault.Unavailable, "systemd cannot start modprobe@nbd.service: ")
	if err != nil && !strings.Contains(err.Error(), "run as root: modprobe nbd") {
		t.Errorf("err = %v, want advice", err)
	}
}
