package units

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
)

// Use says whether the steps run in units. mode is the configuration's
// service.steps: "units", "process", or "auto", which means units if this process
// is a system service: systemd has given it an invocation and the notification
// socket of the system's manager (a user's manager has another).
func Use(mode string) bool {
	if mode != "auto" {
		return mode == "units"
	}
	return os.Getenv("INVOCATION_ID") != "" && os.Getenv("NOTIFY_SOCKET") == "/run/systemd/notify"
}

// ErrStop is the cause to cancel a context of Manager.Run with if the unit shall
// be stopped. Any other end of the context leaves it alone.
var ErrStop = errors.New("the unit was stopped")

// NotStarted is the error of Manager.Run if systemd has refused to start the unit.
// After any other error it may be running.
type NotStarted struct{ Err error }

func (e NotStarted) Error() string { return e.Err.Error() }
func (e NotStarted) Unwrap() error { return e.Err }

// Manager talks to the system's service manager. It holds no connection while it
// follows nothing.
type Manager struct {
	log   *slog.Logger
	times times
}

type times struct {
	call             time.Duration // for one answer of systemd's
	stop             time.Duration // for a unit to end; more than its TimeoutStopSec=
	retry, lastRetry time.Duration // the first and the longest pause before a new connection
}

// New returns a Manager. log receives a line when the connection is lost and when
// it is there again.
func New(log *slog.Logger) *Manager {
	return &Manager{log: log, times: times{call: 25 * time.Second, stop: 40 * time.Second, retry: time.Second, lastRetry: time.Minute}}
}

// RunOptions say how to run a unit.
type RunOptions struct {
	// FollowOnly: it has been started before. If it is not running any more,
	// that is its end.
	FollowOnly bool
	Status     func(string) // gets each new status text; may be nil
	// Asked, if not nil, brings questions of a watchdog, which are answered by Here
	// for as long as the unit is followed.
	Asked <-chan struct{}
	Here  func()
}

// Run starts a unit, unless it is running, and returns when it has ended. An error
// means that this is not so: ctx has ended, or systemd refuses. However long
// systemd cannot be reached, it is tried again.
func (m *Manager) Run(ctx context.Context, unit string, o RunOptions) (Exit, error) {
	f := &follower{unit: unit, path: unitPath(unit), options: o, times: m.times, exit: Exit{Unit: unit}}
	// A unit that is to be stopped is followed a little longer than ctx.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := make(chan struct{})
	f.stop = stop
	undo := context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), ErrStop) {
			end()
			return
		}
		close(stop)
		time.AfterFunc(m.times.stop, end)
	})
	defer undo()

	pause := m.times.retry
	lost := false
	for {
		err := f.session(life, func() {
			if lost {
				m.log.Info("Connected to systemd again; "+unit+" is followed.", "unit", unit)
			}
			lost, pause = false, m.times.retry
		})
		switch {
		case err == nil && ctx.Err() == nil:
			return f.exit, nil
		case err == nil: // it ended; and that was wanted
			return Exit{}, fmt.Errorf("%w: %w", ErrStop, ctx.Err())
		case life.Err() != nil:
			return Exit{}, m.left(ctx, unit)
		case !errors.Is(err, errLost):
			return Exit{}, err
		}
		if !lost {
			lost = true
			m.log.Warn(fmt.Sprintf("There is no connection to systemd; %s is followed when there is one again: %v.", unit, err), "unit", unit, "error", err)
		}
		if err := f.wait(life, pause); err != nil {
			return Exit{}, m.left(ctx, unit)
		}
		pause = min(2*pause, m.times.lastRetry)
	}
}

// left is why a unit is not followed any more although it has not been seen to end.
func (m *Manager) left(ctx context.Context, unit string) error {
	if !errors.Is(context.Cause(ctx), ErrStop) {
		return ctx.Err()
	}
	return fault.New(fault.TryLater, "%s was to be stopped and has not been seen to end for %v; look at: systemctl status %s (%w)",
		unit, m.times.stop, unit, ctx.Err())
}

// Stop stops a unit and returns when it has ended.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(ErrStop)
	_, err := m.Run(ctx, unit, RunOptions{FollowOnly: true})
	if errors.Is(err, ErrStop) {
		return nil
	}
	return fmt.Errorf("cannot stop %s: %w", unit, err)
}

// Unit is a unit of a step as systemd has it now.
type Unit struct {
	Name        string
	Step, Build string
	Failed      bool // else it is running, or about to
}

// List returns the units of steps that are running or have failed.
func (m *Manager) List(ctx context.Context) ([]Unit, error) {
	conn, err := connect(ctx, m.times.call)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot ask systemd for the units of steps: %w", err)
	}
	defer conn.Close()
	var list []struct {
		Name, Description, Load, Active, Sub, Following string
		Path                                            dbus.ObjectPath
		Job                                             uint32
		JobType                                         string
		JobPath                                         dbus.ObjectPath
	}
	states := []string{"active", "activating", "deactivating", "reloading", "failed"}
	err = m.call(ctx, conn, managerPath, managerInterface+".ListUnitsByPatterns", &list, states, []string{Name("install", "*"), Name("customize", "*")})
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot ask systemd for the units of steps: %w", err)
	}
	var units []Unit
	for _, u := range list {
		if step, build, ok := Parse(u.Name); ok {
			units = append(units, Unit{Name: u.Name, Step: step, Build: build, Failed: u.Active == "failed"})
		}
	}
	return units, nil
}

// ResetFailed lets systemd forget that a unit has failed: its build is gone, and
// systemctl --failed should not name it for ever. (A unit that is started again is
// not a failed one any more by that.)
func (m *Manager) ResetFailed(ctx context.Context, unit string) error {
	conn, err := connect(ctx, m.times.call)
	if err == nil {
		defer conn.Close()
		err = m.call(ctx, conn, managerPath, managerInterface+".ResetFailedUnit", nil, unit)
	}
	var refused dbus.Error
	if errors.As(err, &refused) && refused.Name == "org.freedesktop.systemd1.NoSuchUnit" {
		return nil
	}
	if err != nil {
		return fault.New(fault.Unavailable, "cannot reset the failed unit %s: %w", unit, err)
	}
	return nil
}

func (m *Manager) call(ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath, method string, into any, args ...any) error {
	return call(ctx, m.times.call, conn, path, method, into, args...)
}
