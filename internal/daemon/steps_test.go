package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/units"
	"github.com/esxid/esxid/test/privatebus"
)

// serviceManager is as much of systemd as the start of the service needs.
type serviceManager struct {
	mu    sync.Mutex
	conn  *dbus.Conn
	list  []listedUnit
	calls []string
	asked func() // called at each call; may be nil
}

type listedUnit struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func startServiceManager(t *testing.T, states map[string]string) *serviceManager {
	t.Helper()
	conn := privatebus.Start(t).Connect()
	m := &serviceManager{conn: conn}
	for name, active := range states {
		m.list = append(m.list, listedUnit{Name: name, Active: active, Path: "/", JobPath: "/"})
	}
	err := errors.Join(
		conn.Export(m, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"),
		conn.ExportSubtree((*unitStates)(m), "/org/freedesktop/systemd1/unit", "org.freedesktop.DBus.Properties"),
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.systemd1", 0); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *serviceManager) note(call string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked != nil {
		m.asked()
	}
	m.calls = append(m.calls, call)
}

// Subscribe is a method on D-Bus.
func (m *serviceManager) Subscribe() *dbus.Error { return nil }

// ListUnitsByPatterns is a method on D-Bus.
func (m *serviceManager) ListUnitsByPatterns(_, _ []string) ([]listedUnit, *dbus.Error) {
	m.note("list")
	return m.list, nil
}

// ResetFailedUnit is a method on D-Bus.
func (m *serviceManager) ResetFailedUnit(unit string) *dbus.Error {
	m.note("reset " + unit)
	return nil
}

// StopUnit is a method on D-Bus.
func (m *serviceManager) StopUnit(unit, _ string) (dbus.ObjectPath, *dbus.Error) {
	m.note("stop " + unit)
	if err := m.conn.Emit("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.Reloading", false); err != nil {
		return "", dbus.MakeFailedError(err)
	}
	return "/", nil
}

// unitStates has the properties of every unit: it runs until one is stopped.
type unitStates serviceManager

// GetAll is a method on D-Bus.
func (u *unitStates) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	state := "active"
	if slices.ContainsFunc(u.calls, func(c string) bool { return strings.HasPrefix(c, "stop ") }) {
		state = "inactive"
	}
	return map[string]dbus.Variant{"ActiveState": dbus.MakeVariant(state)}, nil
}

// At the start: a unit that is wanted goes on, which is not said to begin; one that is not
// is stopped; and the failures of builds that are gone are forgotten.
func TestUnitsAtTheStart(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	r.f.block = make(chan struct{})
	r.addISO("6.7.0", "8169922")
	stop := r.run()
	<-r.Ready()
	<-r.f.started
	wanted := r.only()
	r.mu.Lock()
	r.builds[wanted].Job = &build.JobRecord{Step: build.StepInstall, Nonce: "n"} // its unit runs on without us
	r.mu.Unlock()
	stop()

	const gone, unknown = "6.5.0-1-00000000", "6.5.0-2-00000000"
	m := startServiceManager(t, map[string]string{
		units.Name(build.StepInstall, wanted):   "active",
		units.Name(build.StepCustomize, wanted): "failed",
		units.Name(build.StepInstall, gone):     "failed",
		units.Name(build.StepInstall, unknown):  "activating",
	})
	again := newRig(t, dir)
	again.f.block = make(chan struct{})
	again.units = units.New(again.log)
	again.run()
	<-again.f.started // the loop of the builds has cleared up before
	for range 2 {
		again.report(build.Event{Time: time.Now(), Build: wanted, Name: "esxi/6.7", Step: build.StepInstall, State: build.EventStarted})
	}
	for text, want := range map[string]int{
		"Following the step install of esxi/6.7": 1, "Building esxi/6.7": 0, "install begins": 1, // the second time
	} {
		if got := again.logs.count("", text) + again.logs.count(journal.Started, text); got != want {
			t.Errorf("%q is in the log %d times, want %d", text, got, want)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.Sort(m.calls)
	want := []string{"list", "reset " + units.Name(build.StepInstall, gone), "stop " + units.Name(build.StepInstall, unknown)}
	if !slices.Equal(m.calls, want) {
		t.Errorf("calls %q, want %q", m.calls, want)
	}
}

// However long systemd takes for each unit, the watchdog gets a sign in between.
func TestUnitsAtTheStartTakeTheirTime(t *testing.T) {
	r := newRig(t, t.TempDir())
	m := startServiceManager(t, map[string]string{
		units.Name(build.StepInstall, "6.5.0-1-00000000"): "failed",
		units.Name(build.StepInstall, "6.5.0-2-00000000"): "failed",
		units.Name(build.StepInstall, "6.5.0-3-00000000"): "active",
	})
	m.mu.Lock()
	m.asked = func() {
		now := time.Now()
		if !r.buildLife.alive(now.Add(time.Hour), now) {
			t.Errorf("no sign of life after %q", m.calls)
		}
		r.buildLife.age()
	}
	m.mu.Unlock()
	r.units = units.New(r.log)
	r.buildLife.age()
	r.clearUnits(t.Context())
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.calls) != 4 {
		t.Errorf("calls %q, want four", m.calls)
	}
}

// Cancelling a build is a wish to stop its unit; the end of the service is not.
func TestEndOfTheServiceStopsNoUnit(t *testing.T) {
	for _, cancelled := range []bool{true, false} {
		r := newRig(t, t.TempDir())
		r.addISO("6.7.0", "8169922")
		causes := make(chan error, 1)
		r.runner = func() runner { return &causeRunner{r.f, causes} }
		stop := r.run()
		<-r.Ready()
		<-r.f.started
		if cancelled {
			r.check(r.Cancel(t.Context(), r.only(), "alice"))
		} else {
			stop()
		}
		if cause := <-causes; errors.Is(cause, units.ErrStop) != cancelled {
			t.Errorf("cancelled %v: cause %v", cancelled, cause)
		}
	}
}

// causeRunner tells why it was interrupted.
type causeRunner struct {
	*fakeRunner
	causes chan error
}

func (c *causeRunner) Make(ctx context.Context, b *build.Build) error {
	c.started <- what(b)
	<-ctx.Done()
	c.causes <- context.Cause(ctx)
	return ctx.Err()
}

// A build whose unit runs on comes before older ones: two installations at once
// would be too much.
func TestBuildWithAUnitComesFirst(t *testing.T) {
	r := newRig(t, t.TempDir())
	b := func(id string, job *build.JobRecord) *build.Build {
		x := &build.Build{Plan: build.Plan{ID: id}, State: build.Queued, Job: job}
		x.Plan.ISO.SHA256 = id
		r.builds[id], r.current[id] = x, id
		return x
	}
	b("1", nil)
	b("2", nil)
	last := b("3", &build.JobRecord{Step: build.StepInstall})
	got, _ := r.next(func(*build.Build) bool { return true })
	if got != last {
		t.Errorf("the first is %s", got.ID())
	}
}
