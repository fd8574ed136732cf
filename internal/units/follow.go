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
	mail     *mailbox
	deaf     bool // systemd has to be asked again to send signals
	started  bool // systemd has accepted the start
	stopping bool // and the stop

	job    dbus.ObjectPath // of the start, while it is not done
	queued bool            // the unit has some job
	active string          // ActiveState
	exit   Exit
}

// session follows the unit over one connection until it has ended (nil), the
// connection is lost (errLost), ctx ends or systemd refuses.
func (f *follower) session(ctx context.Context, connected func()) error {
	f.mail = newMailbox()
	conn, err := connect(ctx, f.times.call, dbus.WithSignalHandler(f.mail))
	if err != nil {
		return err
	}
	defer conn.Close()
	f.conn = conn
	if err := f.subscribe(ctx); err != nil {
		return err
	}
	connected()
	if !f.started && !f.options.FollowOnly && !closed(f.stop) {
		if err := f.call(ctx, managerPath, managerInterface+".StartUnit", &f.job, f.unit, "replace"); err != nil {
			if err = f.refusal("start", err); errors.Is(err, errLost) {
				return err
			}
			return NotStarted{err}
		}
	}
	f.started = true
	for unknown := true; ; unknown = false {
		if err := f.look(ctx, unknown); err != nil {
			return err
		}
		if f.ended() {
			return nil
		}
		stop := f.stop
		if f.stopping {
			stop = nil
		}
		select {
		case <-f.mail.news:
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
	return f.listen(ctx)
}

// listen makes systemd send signals, which it does only if somebody wants them.
func (f *follower) listen(ctx context.Context) error {
	f.deaf = false
	err := f.call(ctx, managerPath, managerInterface+".Subscribe", nil)
	var refused dbus.Error
	if errors.As(err, &refused) && refused.Name == systemd+".AlreadySubscribed" {
		return nil
	}
	return f.refusal("follow", err)
}

// look takes in what was told, and asks for the unit's whole state if that is
// unknown or may be another one than was told.
func (f *follower) look(ctx context.Context, unknown bool) error {
	for {
		again, err := f.hear()
		if err != nil {
			return err
		}
		if !again && !unknown {
			return nil
		}
		if f.deaf {
			if err := f.listen(ctx); err != nil {
				return err
			}
		}
		// The properties of all interfaces, and so all of the same moment.
		var all map[string]dbus.Variant
		if err := f.call(ctx, f.path, properties+".GetAll", &all, ""); err != nil {
			return f.refusal("follow", err)
		}
		// What was told before comes first. It may be all there is to know of the
		// end of a unit that systemd has forgotten by now.
		if unknown, err = f.hear(); err != nil {
			return err
		}
		if id, ok := all["InvocationID"].Value().([]byte); !ok || len(id) == 0 {
			delete(all, "Result")
			delete(all, "ExecMainStatus")
		}
		f.take(all)
	}
}

// hear takes in the signals that have come, and says whether the state should be
// asked for.
func (f *follower) hear() (again bool, err error) {
	signals, closed := f.mail.take()
	for _, s := range signals {
		again = f.signal(s) || again
	}
	if closed {
		return again, errLost
	}
	return again, nil
}

func (f *follower) signal(s *dbus.Signal) (again bool) {
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
			return false
		}
		f.job = ""
		switch result {
		case "done", "failed", "timeout", "canceled": // it has begun, and has a result of its own
		default:
			f.exit.Result = result
		}
		return true
	case s.Name == managerInterface+".Reloading":
		// Both when it begins and when it ends. Signals may be lost in between.
		return true
	case s.Name == "org.freedesktop.DBus.NameOwnerChanged":
		// systemd has gone, or has come again and knows nobody yet.
		var name, before, after string
		f.deaf = dbus.Store(s.Body, &name, &before, &after) == nil && after != ""
		return f.deaf
	}
	return false
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
	if errors.Is(err, errLost) || !errors.As(err, &refused) {
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

// connect connects to the system's bus. One that takes connections and then says
// nothing is given up after limit.
func connect(ctx context.Context, limit time.Duration, options ...dbus.ConnOption) (*dbus.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	silent := time.AfterFunc(limit, cancel)
	conn, err := dbus.ConnectSystemBus(append(options, dbus.WithContext(ctx))...)
	if err == nil && !silent.Stop() {
		conn.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return conn, nil
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
