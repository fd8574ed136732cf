package units

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/test/privatebus"
)

// The interfaces of a unit that is a service.
const (
	unitInterface    = systemd + ".Unit"
	serviceInterface = systemd + ".Service"
)

const testUnit = "esxid-install@8.0.3-24677879-1a2b3c4d.service"

// manager stands in for systemd on a bus
// (https://www.freedesktop.org/software/systemd/man/org.freedesktop.systemd1.html).
// A unit does what the test tells it to do.
type manager struct {
	t    *testing.T
	bus  *privatebus.Bus
	conn *dbus.Conn

	// answering is held from an answer's making to its sending, so that no signal
	// about a later state overtakes it: systemd does one thing at a time.
	answering sync.Mutex

	mu          sync.Mutex
	calls       []string
	called      chan string // the same
	subscribers int
	refuse      map[string]string // method → error name
	unit        map[string]dbus.Variant
	service     map[string]dbus.Variant
	list        [][]any
}

func startManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, bus: privatebus.Start(t), called: make(chan string, 100), refuse: map[string]string{}}
	m.forget()
	m.serve()
	return m
}

// serve puts the manager on the bus.
func (m *manager) serve() {
	m.t.Helper()
	var conn *dbus.Conn
	conn = m.bus.Connect(dbus.WithOutgoingInterceptor(func(msg *dbus.Message) { m.sending(conn, msg) }))
	m.conn = conn
	for _, err := range []error{
		m.conn.Export(m, managerPath, managerInterface),
		m.conn.Export((*unitProperties)(m), unitPath(testUnit), properties),
	} {
		if err != nil {
			m.t.Fatal(err)
		}
	}
	m.with(func() { m.subscribers = 0 })
	if reply, err := m.conn.RequestName(systemd, 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		m.t.Fatal(reply, err)
	}
}

// forget makes the unit one that systemd has never seen.
func (m *manager) forget() {
	m.answering.Lock()
	defer m.answering.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unit = map[string]dbus.Variant{
		"ActiveState": dbus.MakeVariant("inactive"), "InvocationID": dbus.MakeVariant([]byte{}), "Job": job(0),
	}
	m.service = map[string]dbus.Variant{
		"Result": dbus.MakeVariant("success"), "ExecMainStatus": dbus.MakeVariant(int32(0)), "StatusText": dbus.MakeVariant(""),
	}
}

// sending is called just before something is sent. What is sent next goes behind
// it.
func (m *manager) sending(conn *dbus.Conn, msg *dbus.Message) {
	if msg.Type != dbus.TypeMethodReply || len(msg.Body) != 1 {
		return
	}
	if _, ok := msg.Body[0].(map[string]dbus.Variant); ok {
		go func() {
			conn.BusObject().Call("org.freedesktop.DBus.GetId", 0)
			m.answering.Unlock()
		}()
	}
}

// with changes what the manager answers with.
func (m *manager) with(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// count says how many calls there were of a method, or of one with arguments.
func (m *manager) count(call string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

func job(id uint32) dbus.Variant {
	return dbus.MakeVariant(struct {
		ID   uint32
		Path dbus.ObjectPath
	}{id, "/"})
}

func (m *manager) call(method, arg string) *dbus.Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := strings.TrimSpace(method + " " + arg)
	m.calls = append(m.calls, text)
	m.called <- text
	if name := m.refuse[method]; name != "" {
		return dbus.NewError(name, []any{"because"})
	}
	return nil
}

// Subscribe is a method on D-Bus.
func (m *manager) Subscribe() *dbus.Error {
	m.mu.Lock()
	m.subscribers++
	m.mu.Unlock()
	return m.call("Subscribe", "")
}

// StartUnit is a method on D-Bus. The job stays queued until the test goes on.
func (m *manager) StartUnit(unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	m.mu.Lock()
	m.unit["Job"] = job(7)
	m.mu.Unlock()
	return "/job/7", m.call("StartUnit", unit+" "+mode)
}

// StopUnit is a method on D-Bus.
func (m *manager) StopUnit(unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	return "/job/8", m.call("StopUnit", unit+" "+mode)
}

// ResetFailedUnit is a method on D-Bus.
func (m *manager) ResetFailedUnit(unit string) *dbus.Error { return m.call("ResetFailedUnit", unit) }

// ListUnitsByPatterns is a method on D-Bus.
func (m *manager) ListUnitsByPatterns(states, patterns []string) ([]listed, *dbus.Error) {
	err := m.call("ListUnitsByPatterns", strings.Join(patterns, ","))
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []listed
	for _, u := range m.list {
		all = append(all, listed{Name: u[0].(string), Active: u[1].(string), Path: "/", JobPath: "/"})
	}
	return all, err
}

type listed struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// unitProperties answers for the unit.
type unitProperties manager

// GetAll is a method on D-Bus.
func (p *unitProperties) GetAll(name string) (map[string]dbus.Variant, *dbus.Error) {
	m := (*manager)(p)
	if err := m.call("GetAll", name); err != nil {
		return nil, err
	}
	m.answering.Lock() // until it is sent
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(m.unit)
	maps.Copy(all, m.service)
	return all, nil
}

// change changes properties and tells whoever has subscribed.
func (m *manager) change(name string, values map[string]any) {
	m.t.Helper()
	m.answering.Lock()
	defer m.answering.Unlock()
	m.mu.Lock()
	changed := map[string]dbus.Variant{}
	to := m.unit
	if name == serviceInterface {
		to = m.service
	}
	for k, v := range values {
		changed[k] = dbus.MakeVariant(v)
		if variant, ok := v.(dbus.Variant); ok {
			changed[k] = variant
		}
		to[k] = changed[k]
	}
	tell := m.subscribers > 0
	m.mu.Unlock()
	if !tell {
		return
	}
	if err := m.conn.Emit(unitPath(testUnit), properties+".PropertiesChanged", name, changed, []string{}); err != nil {
		m.t.Error(err)
	}
}

// runs makes the unit a running one and ends the job of its start.
func (m *manager) runs() {
	m.t.Helper()
	m.change(unitInterface, map[string]any{"ActiveState": "active", "InvocationID": []byte("0123456789abcdef"), "Job": job(0)})
	m.emit("JobRemoved", uint32(7), dbus.ObjectPath("/job/7"), testUnit, "done")
}

// ends ends the unit.
func (m *manager) ends(state, result string, code int32) {
	m.t.Helper()
	m.change(serviceInterface, map[string]any{"Result": result, "ExecMainStatus": code})
	m.change(unitInterface, map[string]any{"ActiveState": state, "Job": job(0)})
}

func (m *manager) emit(signal string, args ...any) {
	m.t.Helper()
	m.answering.Lock()
	defer m.answering.Unlock()
	if err := m.conn.Emit(managerPath, managerInterface+"."+signal, args...); err != nil {
		m.t.Error(err)
	}
}

// await waits until a method is called.
func (m *manager) await(call string) {
	m.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case got := <-m.called:
			if got == call {
				return
			}
		case <-limit:
			m.t.Fatalf("no call of %s; there were %q", call, m.calls)
		}
	}
}

// run is a Run under way.
type run struct {
	t      *testing.T
	cancel context.CancelCauseFunc
	status chan string
	log    *lockedBuffer
	done   chan struct{}
	exit   Exit
	err    error
}

func startRun(t *testing.T, o RunOptions) *run {
	t.Helper()
	r := &run{t: t, status: make(chan string, 100), log: &lockedBuffer{}, done: make(chan struct{})}
	m := New(slog.New(slog.NewTextHandler(r.log, nil)))
	m.times.retry, m.times.lastRetry, m.times.call = 10*time.Millisecond, 100*time.Millisecond, 3*time.Second
	o.Status = func(line string) { r.status <- line }
	var ctx context.Context
	ctx, r.cancel = context.WithCancelCause(t.Context())
	go func() {
		defer close(r.done)
		r.exit, r.err = m.Run(ctx, testUnit, o)
	}()
	t.Cleanup(func() {
		r.cancel(nil)
		<-r.done
	})
	return r
}

// wait waits for the end of Run.
func (r *run) wait() {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		r.t.Fatal("Run does not return")
	}
}

func (r *run) wantStatus(want string) {
	r.t.Helper()
	select {
	case got := <-r.status:
		if got != want {
			r.t.Errorf("status %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		r.t.Fatalf("no status; want %q", want)
	}
}

func (r *run) wantExit(want Exit) {
	r.t.Helper()
	r.wait()
	want.Unit = testUnit
	if r.err != nil || r.exit != want {
		r.t.Errorf("Run = %+v, %v; want %+v", r.exit, r.err, want)
	}
}

// lockedBuffer takes a log from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.b.String())
}
