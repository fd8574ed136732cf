package units

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
)

// Names of systemd's interface (org.freedesktop.systemd1(5)).
const (
	systemd          = "org.freedesktop.systemd1"
	managerPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerInterface = systemd + ".Manager"
	unitInterface    = systemd + ".Unit"
	serviceInterface = systemd + ".Service"
	properties       = "org.freedesktop.DBus.Properties"
)

// errLost means that the connection, or systemd at its other end, is not there.
var errLost = errors.New("cannot reach systemd")

// follower follows one unit, over as many connections as that takes.
type follower struct {
	unit    string
	path    dbus.ObjectPath
	options RunOptions
	times   times
	stop    <-chan struct{} // closed when the unit shall be stopped

	conn     *dbus.Conn
	started  bool            // systemd has accepted the start
	stopping bool            // and the stop
	job      dbus.ObjectPath // of the start, while it is not done
	queued   bool            // the unit has some job
	active   string          // ActiveState
	exit     Exit
}

// session follows the unit over one connection until it has ended (nil), the
// connection is lost (errLost), ctx ends or systemd refuses.
func (f *follower) session(ctx context.Context, connected func()) error {
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	defer conn.Close()
	f.conn = conn
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := f.subscribe(ctx); err != nil {
		return err
	}
	connected()
	if !f.started && !f.options.FollowOnly && !closed(f.stop) {
		if err := f.call(ctx, managerPath, managerInterface+".StartUnit", &f.job, f.unit, "replace"); err != nil {
			return f.refusal("start", err)
		}
	}
	f.started = true
	if err := f.refresh(ctx); err != nil {
		return err
	}
	for {
		if f.ended() {
			return nil
		}
		stop := f.stop
		if f.stopping {
			stop = nil
		}
		select {
		case s, ok := <-signals:
			if !ok {
				return errLost
			}
			if err := f.signal(ctx, s); err != nil {
				return err
			}
		case <-stop:
			if err := f.call(ctx, managerPath, managerInterface+".StopUnit", nil, f.unit, "replace"); err != nil {
				return f.refusal("stop", err)
			}
			f.stopping = true
		case <-f.options.Asked:
			f.options.Here()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait waits before the next connection.
func (f *follower) wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-f.options.Asked:
			f.options.Here()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ended says whether the unit has come to its end. Before the start has been
// worked on it is inactive too, but has a job.
func (f *follower) ended() bool {
	return !f.queued && (f.active == "inactive" || f.active == "failed")
}

func (f *follower) subscribe(ctx context.Context) error {
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(systemd), dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchObjectPath(f.path)},
		{dbus.WithMatchSender(systemd), dbus.WithMatchInterface(managerInterface), dbus.WithMatchObjectPath(managerPath)},
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, systemd)},
	} {
		if err := f.conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
	}
	return f.askForSignals(ctx)
}

// askForSignals makes systemd send signals, which it does only if somebody wants
// them.
func (f *follower) askForSignals(ctx context.Context) error {
	err := f.call(ctx, managerPath, managerInterface+".Subscribe", nil)
	var refused dbus.Error
	if errors.As(err, &refused) && refused.Name == systemd+".AlreadySubscribed" {
		return nil
	}
	return f.refusal("follow", err)
}

// signal takes in what systemd or the bus tells.
func (f *follower) signal(ctx context.Context, s *dbus.Signal) error {
	switch {
	case s.Name == properties+".PropertiesChanged" && s.Path == f.path:
		var name string
		var changed map[string]dbus.Variant
		var dropped []string
		if dbus.Store(s.Body, &name, &changed, &dropped) == nil {
			f.take(changed)
		}
	case s.Name == managerInterface+".JobRemoved":
		var id uint32
		var job dbus.ObjectPath
		var unit, result string
		if dbus.Store(s.Body, &id, &job, &unit, &result) != nil || job != f.job {
			return nil
		}
		f.job = ""
		err := f.refresh(ctx)
		// A unit that was not even started has no result of its own.
		if f.exit.Result == "" && result != "done" && result != "canceled" {
			f.exit.Result = result
		}
		return err
	case s.Name == managerInterface+".Reloading":
		// Both when it begins and when it ends. Signals may be lost in between.
		return f.refresh(ctx)
	case s.Name == "org.freedesktop.DBus.NameOwnerChanged":
		// systemd has gone, or come again after daemon-reexec, and knows nobody yet.
		var name, before, after string
		if dbus.Store(s.Body, &name, &before, &after) != nil || after == "" {
			return nil
		}
		if err := f.askForSignals(ctx); err != nil {
			return err
		}
		return f.refresh(ctx)
	}
	return nil
}

// refresh asks for the unit's state.
func (f *follower) refresh(ctx context.Context) error {
	var unit, service map[string]dbus.Variant
	if err := f.call(ctx, f.path, properties+".GetAll", &unit, unitInterface); err != nil {
		return f.refusal("follow", err)
	}
	f.take(unit)
	// Without an invocation it has never run, or systemd has forgotten that it did:
	// what it would say of the end is not true.
	if id, ok := unit["InvocationID"].Value().([]byte); !ok || len(id) == 0 {
		return nil
	}
	if err := f.call(ctx, f.path, properties+".GetAll", &service, serviceInterface); err != nil {
		return f.refusal("follow", err)
	}
	f.take(service)
	return nil
}

// take takes over the properties that matter here.
func (f *follower) take(p map[string]dbus.Variant) {
	if v, ok := p["ActiveState"].Value().(string); ok {
		f.active = v
	}
	if v, ok := p["Result"].Value().(string); ok {
		f.exit.Result = v
	}
	if v, ok := p["ExecMainStatus"].Value().(int32); ok {
		f.exit.Code = int(v)
	}
	if v, ok := p["Job"].Value().([]any); ok && len(v) > 0 {
		id, _ := v[0].(uint32)
		f.queued = id != 0
	}
	if v, ok := p["StatusText"].Value().(string); ok && v != "" && v != f.exit.Status {
		f.exit.Status = v
		if f.options.Status != nil {
			f.options.Status(v)
		}
	}
}

func (f *follower) call(ctx context.Context, path dbus.ObjectPath, method string, into any, args ...any) error {
	return call(ctx, f.times.call, f.conn, path, method, into, args...)
}

// refusal says what it means that systemd does not do what it is asked. Nothing of
// it is the build's fault, so all of it is worth another try.
func (f *follower) refusal(verb string, err error) error {
	var refused dbus.Error
	if err == nil || !errors.As(err, &refused) {
		return err
	}
	switch refused.Name {
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return fault.New(fault.Unavailable, "systemd does not let esxid %s %s (%w): is polkitd installed and running, and /usr/share/polkit-1/rules.d/esxid.rules there?", verb, f.unit, err)
	case systemd + ".NoSuchUnit", systemd + ".LoadFailed":
		return fault.New(fault.Unavailable, "systemd does not know %s (%w): is the package installed completely? try: systemctl daemon-reload", f.unit, err)
	}
	return fault.New(fault.Unavailable, "systemd cannot %s %s: %w", verb, f.unit, err)
}

func connect(ctx context.Context) (*dbus.Conn, error) {
	// In the order they came: the last state must win.
	return dbus.ConnectSystemBus(dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
}

// call calls a method of systemd's. The error is a dbus.Error if systemd refused,
// else errLost.
func call(ctx context.Context, limit time.Duration, conn *dbus.Conn, path dbus.ObjectPath, method string, into any, args ...any) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Waiting for systemd to be started by the bus is no use: it is there or coming.
	reply := conn.Object(systemd, path).CallWithContext(limited, method, dbus.FlagNoAutoStart, args...)
	err := reply.Err
	if err == nil && into != nil {
		err = reply.Store(into)
	}
	var refused dbus.Error
	if err == nil || errors.As(err, &refused) && !absent(refused.Name) {
		return err
	}
	return fmt.Errorf("%w: %w", errLost, err)
}

// absent says whether an error of the bus means that systemd is not there.
func absent(name string) bool {
	switch strings.TrimPrefix(name, "org.freedesktop.DBus.Error.") {
	case "ServiceUnknown", "NameHasNoOwner", "NoReply", "Timeout", "TimedOut", "Disconnected", "NoServer":
		return true
	}
	return false
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// unitPath is the object of a unit: its name, in which everything but letters and
// digits is "_" and its code in hexadecimal.
func unitPath(unit string) dbus.ObjectPath {
	var b strings.Builder
	b.WriteString(string(managerPath) + "/unit/")
	for i := range len(unit) {
		c := unit[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return dbus.ObjectPath(b.String())
}
