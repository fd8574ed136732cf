package units

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/fault"
)

const start = "StartUnit " + testUnit + " replace"

func TestRun(t *testing.T) {
	tests := []struct {
		state, result string
		code          int32
	}{
		{"inactive", "success", 0},
		{"failed", "exit-code", 65},
		{"failed", "signal", 9},
		{"failed", "oom-kill", 9},
	}
	for _, tt := range tests {
		t.Run(tt.result, func(t *testing.T) {
			m := startManager(t)
			r := startRun(t, RunOptions{})
			m.await(start)
			m.runs()
			m.change(serviceInterface, map[string]any{"StatusText": "10 %: loading"})
			r.wantStatus("10 %: loading")
			m.change(serviceInterface, map[string]any{"StatusText": "62 %: installing"})
			r.wantStatus("62 %: installing")
			m.ends(tt.state, tt.result, tt.code)
			r.wantExit(Exit{Result: tt.result, Code: int(tt.code), Status: "62 %: installing"})
		})
	}
}

// A unit that fails while it is started has ended too; and one that could not be
// started at all says why.
func TestRunThatDoesNotStart(t *testing.T) {
	m := startManager(t)
	r := startRun(t, RunOptions{})
	m.await(start)
	m.change(unitInterface, map[string]any{"InvocationID": []byte("0123456789abcdef")})
	m.ends("failed", "exit-code", 203)
	r.wantExit(Exit{Result: "exit-code", Code: 203})

	m.forget()
	r = startRun(t, RunOptions{})
	m.await(start)
	m.await("GetAll") // in the queue
	m.with(func() { m.unit["Job"] = job(0) })
	m.emit("JobRemoved", uint32(7), dbus.ObjectPath("/job/7"), testUnit, "dependency")
	r.wantExit(Exit{Result: "dependency"})
}

func TestRunRefused(t *testing.T) {
	tests := []struct{ name, want string }{
		{"org.freedesktop.DBus.Error.AccessDenied", "is polkitd installed"},
		{"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "is polkitd installed"},
		{"org.freedesktop.systemd1.NoSuchUnit", "systemctl daemon-reload"},
		{"org.freedesktop.systemd1.ShuttingDown", "because"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := startManager(t)
			m.with(func() { m.refuse["StartUnit"] = tt.name })
			r := startRun(t, RunOptions{})
			r.wait()
			// The build waits for it to be mended: it is not the build's fault.
			if !fault.Passes(r.err) || !strings.Contains(r.err.Error(), tt.want) || !strings.Contains(r.err.Error(), testUnit) {
				t.Errorf("err = %v, want %q", r.err, tt.want)
			}
			if !errors.As(r.err, &NotStarted{}) {
				t.Errorf("err = %v: it was not started", r.err)
			}
		})
	}
}

// A unit that was started, by this process or an earlier one, may well run on when
// systemd does not let it be followed.
func TestFollowRefused(t *testing.T) {
	for _, method := range []string{"Subscribe", "GetAll"} {
		for _, followOnly := range []bool{true, false} {
			m := startManager(t)
			m.with(func() { m.refuse[method] = "org.freedesktop.DBus.Error.AccessDenied" })
			r := startRun(t, RunOptions{FollowOnly: followOnly})
			r.wait()
			if !fault.Passes(r.err) || errors.As(r.err, &NotStarted{}) {
				t.Errorf("%s, FollowOnly %v: err = %v", method, followOnly, r.err)
			}
		}
	}
}

// What was started before is followed, and not started again.
func TestFollow(t *testing.T) {
	m := startManager(t)
	m.runs()
	m.change(serviceInterface, map[string]any{"StatusText": "50 %: installing"})
	r := startRun(t, RunOptions{FollowOnly: true})
	r.wantStatus("50 %: installing")
	m.ends("inactive", "success", 0)
	r.wantExit(Exit{Result: "success", Status: "50 %: installing"})

	r = startRun(t, RunOptions{FollowOnly: true}) // it has ended meanwhile
	r.wantExit(Exit{Result: "success", Status: "50 %: installing"})
	m.forget() // and the host was restarted
	r = startRun(t, RunOptions{FollowOnly: true})
	r.wantExit(Exit{})
	if m.count(start) > 0 {
		t.Error("it was started")
	}
}

// The end of a unit that systemd forgets at once is known from the signals.
func TestUnitIsForgotten(t *testing.T) {
	m := startManager(t)
	r := startRun(t, RunOptions{})
	m.await(start)
	m.runs()
	m.await("GetAll")
	m.change(serviceInterface, map[string]any{"Result": "signal", "ExecMainStatus": int32(9)})
	m.forget()
	m.emit("Reloading", false)
	r.wantExit(Exit{Result: "signal", Code: 9})
}

// D-Bus is restarted, more than once, while the unit runs; systemd comes back
// later than the bus. The unit ends while nobody is connected.
func TestBusIsRestarted(t *testing.T) {
	m := startManager(t)
	r := startRun(t, RunOptions{})
	m.await(start)
	m.runs()
	m.await("GetAll")
	for range 2 {
		m.bus.Stop()
		m.bus.Start()
		m.serve()
		m.await("GetAll")
	}
	m.change(serviceInterface, map[string]any{"StatusText": "70 %: installing"})
	r.wantStatus("70 %: installing")
	m.bus.Stop()
	m.with(func() {
		m.unit["ActiveState"] = dbus.MakeVariant("failed")
		m.service["Result"], m.service["ExecMainStatus"] = dbus.MakeVariant("exit-code"), dbus.MakeVariant(int32(75))
	})
	m.bus.Start()
	m.serve()
	r.wantExit(Exit{Result: "exit-code", Code: 75, Status: "70 %: installing"})
	if n := strings.Count(r.log.String(), "There is no connection to systemd"); n == 0 || n > 3 || !strings.Contains(r.log.String(), "Connected to systemd again") {
		t.Errorf("log: %s", r.log)
	}
	if n := m.count(start); n != 1 {
		t.Errorf("started %d times", n)
	}
}

// systemd loses its subscribers when it executes itself anew.
func TestManagerIsExecutedAnew(t *testing.T) {
	m := startManager(t)
	r := startRun(t, RunOptions{})
	m.await(start)
	m.runs()
	m.await("GetAll")
	m.conn.Close()
	m.serve()
	m.await("Subscribe")
	m.await("GetAll")
	m.ends("inactive", "success", 0)
	r.wantExit(Exit{Result: "success"})
}

// A bus that takes connections and says nothing: the end of the service comes
// through, and so do the watchdog's questions in between.
func TestSilentBus(t *testing.T) {
	dir, err := os.MkdirTemp("", "bus-*") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+listener.Addr().String())
	asked, answers := make(chan struct{}), make(chan struct{}, 1)
	r := startRun(t, RunOptions{Asked: asked, Here: func() { answers <- struct{}{} }})
	asked <- struct{}{}
	<-answers
	r.cancel(nil)
	r.wait()
	if !errors.Is(r.err, context.Canceled) {
		t.Errorf("err = %v", r.err)
	}
}

func TestStop(t *testing.T) {
	m := startManager(t)
	r := startRun(t, RunOptions{})
	m.await(start)
	m.runs()
	r.cancel(ErrStop)
	m.await("StopUnit " + testUnit + " replace")
	select {
	case <-r.done:
		t.Fatal("Run returned before the unit had ended")
	case <-time.After(50 * time.Millisecond):
	}
	m.ends("inactive", "success", 130)
	r.wait()
	if !errors.Is(r.err, ErrStop) || !errors.Is(r.err, context.Canceled) {
		t.Errorf("err = %v", r.err)
	}
}

// Before the unit is running, and over a lost connection.
func TestStopAtAnyTime(t *testing.T) {
	m := startManager(t)
	manager := New(nil)
	if err := manager.Stop(t.Context(), testUnit); err != nil {
		t.Errorf("it does not run: %v", err)
	}
	if m.count(start) > 0 {
		t.Error("it was started to be stopped")
	}
	r := startRun(t, RunOptions{})
	m.await(start)
	m.runs()
	m.await("GetAll")
	m.bus.Stop()
	r.cancel(ErrStop)
	m.bus.Start()
	m.serve()
	m.await("StopUnit " + testUnit + " replace")
	m.ends("inactive", "success", 130)
	r.wait()
	if !errors.Is(r.err, ErrStop) {
		t.Errorf("err = %v", r.err)
	}
}

// A unit that does not end is given up, with and without a connection; a build that
// waits for that is tried again.
func TestStopInVain(t *testing.T) {
	m := startManager(t)
	m.runs()
	manager := New(slog.New(slog.DiscardHandler))
	manager.times.stop = 50 * time.Millisecond
	for _, connected := range []bool{true, false} {
		if !connected {
			m.bus.Stop()
		}
		err := manager.Stop(t.Context(), testUnit)
		if !fault.Passes(err) || errors.Is(err, ErrStop) || !strings.Contains(err.Error(), "systemctl status "+testUnit) {
			t.Errorf("connected %v: err = %v", connected, err)
		}
	}
}

// An end of the service leaves the unit alone, also while nobody is connected.
func TestRunIsLeft(t *testing.T) {
	m := startManager(t)
	r := startRun(t, RunOptions{})
	m.await(start)
	m.runs()
	r.cancel(nil)
	r.wait()
	if !errors.Is(r.err, context.Canceled) || errors.Is(r.err, ErrStop) {
		t.Errorf("err = %v", r.err)
	}
	r = startRun(t, RunOptions{FollowOnly: true})
	m.await("GetAll")
	m.bus.Stop()
	r.cancel(nil)
	r.wait()
	if !errors.Is(r.err, context.Canceled) {
		t.Errorf("err = %v", r.err)
	}
	if m.count("StopUnit") > 0 {
		t.Error("it was stopped")
	}
}

// The watchdog's questions are answered with and without a connection.
func TestAnswersTheWatchdog(t *testing.T) {
	m := startManager(t)
	asked, answers := make(chan struct{}), make(chan struct{}, 1)
	r := startRun(t, RunOptions{Asked: asked, Here: func() { answers <- struct{}{} }})
	m.await(start)
	m.runs()
	ask := func() {
		t.Helper()
		select {
		case asked <- struct{}{}:
			<-answers
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
		}
	}
	ask()
	m.bus.Stop()
	ask()
	ask()
	r.cancel(nil)
}

func TestList(t *testing.T) {
	m := startManager(t)
	const other = "esxid-customize@6.7.0-8169922-00000000.service"
	m.with(func() { m.list = [][]any{{testUnit, "active"}, {other, "failed"}} })
	got, err := New(nil).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Unit{
		{Name: testUnit, Step: "install", Build: "8.0.3-24677879-1a2b3c4d"},
		{Name: other, Step: "customize", Build: "6.7.0-8169922-00000000", Failed: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	m.bus.Stop()
	if _, err := New(nil).List(t.Context()); fault.ClassOf(err) != fault.Unavailable {
		t.Errorf("without a bus: %v", err)
	}
}

func TestResetFailed(t *testing.T) {
	m := startManager(t)
	manager := New(nil)
	if err := manager.ResetFailed(t.Context(), testUnit); err != nil {
		t.Error(err)
	}
	m.with(func() { m.refuse["ResetFailedUnit"] = "org.freedesktop.systemd1.NoSuchUnit" })
	if err := manager.ResetFailed(t.Context(), testUnit); err != nil {
		t.Errorf("nothing to reset: %v", err)
	}
	m.with(func() { m.refuse["ResetFailedUnit"] = "org.freedesktop.DBus.Error.AccessDenied" })
	if err := manager.ResetFailed(t.Context(), testUnit); err == nil {
		t.Error("a refusal is no error")
	}
}

func TestExitErr(t *testing.T) {
	tests := []struct {
		exit  Exit
		class fault.Class
		want  string
	}{
		{Exit{}, fault.TryLater, "ended without a result"},
		{Exit{Result: "success", Code: 130}, fault.TryLater, "ended without a result"},
		{Exit{Result: "exit-code", Code: 1}, fault.Failed, "exit status 1"},
		{Exit{Result: "exit-code", Code: 73}, fault.CannotWrite, "exit status 73"},
		{Exit{Result: "exit-code", Code: 203}, fault.Unavailable, "exit status 203"},
		{Exit{Result: "signal", Code: 9, Status: "62 %: installing"}, fault.TryLater, "ended by SIGKILL (it was at: 62 %: installing)"},
		{Exit{Result: "signal", Code: 31}, fault.Failed, "ended by SIGSYS"},
		{Exit{Result: "oom-kill", Code: 9}, fault.TryLater, "out of memory"},
		{Exit{Result: "timeout"}, fault.TryLater, "did not end"},
		{Exit{Result: "dependency"}, fault.Unavailable, "systemd cannot run"},
	}
	for _, tt := range tests {
		tt.exit.Unit = testUnit
		err := tt.exit.Err()
		if fault.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "journalctl -u "+testUnit) {
			t.Errorf("%+v: class %d, %v", tt.exit, fault.ClassOf(err), err)
		}
	}
}

func TestNames(t *testing.T) {
	if got := Name("install", "8.0.3-24677879-1a2b3c4d"); got != testUnit {
		t.Errorf("Name = %s", got)
	}
	if got := unitPath(testUnit); got != "/org/freedesktop/systemd1/unit/esxid_2dinstall_408_2e0_2e3_2d24677879_2d1a2b3c4d_2eservice" {
		t.Errorf("unitPath = %s", got)
	}
	for _, other := range []string{"esxid.service", "ssh.service", "esxid-install@x", "esxid-install.service"} {
		if step, build, ok := Parse(other); ok {
			t.Errorf("Parse(%q) = %q, %q", other, step, build)
		}
	}
}

func TestUse(t *testing.T) {
	tests := []struct {
		mode, invocation, socket string
		want                     bool
	}{
		{"units", "", "", true},
		{"process", "1", "/run/systemd/notify", false},
		{"auto", "1", "/run/systemd/notify", true},
		{"auto", "1", "/run/user/1000/systemd/notify", false},
		{"auto", "", "/run/systemd/notify", false},
		{"auto", "1", "", false},
	}
	for _, tt := range tests {
		t.Setenv("INVOCATION_ID", tt.invocation)
		t.Setenv("NOTIFY_SOCKET", tt.socket)
		if got := Use(tt.mode); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
