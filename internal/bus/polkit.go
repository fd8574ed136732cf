package bus

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
)

const (
	polkitName      = "org.freedesktop.PolicyKit1"
	polkitPath      = dbus.ObjectPath("/org/freedesktop/PolicyKit1/Authority")
	polkitAuthority = polkitName + ".Authority"
)

// Limits of asking who may do what. A person needs time to type a password.
const (
	busLimit         = 10 * time.Second
	interactiveLimit = 3 * time.Minute
)

// polkitSubject is who wants to do something: (sa{sv}).
type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// polkitResult is polkit's answer: (bba{ss}).
type polkitResult struct {
	Authorized bool
	Challenge  bool // could be, after asking for a password
	Details    map[string]string
}

// authorize says whether the caller may do an action. Root may without polkit, so that a
// host without it can be managed.
func (c *call) authorize(action string) error {
	uid, err := c.uid()
	if err != nil || uid == 0 {
		return err
	}
	flags, limit := uint32(0), busLimit
	if c.msg.Flags&dbus.FlagAllowInteractiveAuthorization != 0 {
		flags, limit = 1, interactiveLimit
	}
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	defer cancel()
	subject := polkitSubject{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(c.sender)}}
	var result polkitResult
	err = c.conn.Object(polkitName, polkitPath).
		CallWithContext(ctx, polkitAuthority+".CheckAuthorization", 0, subject, action, map[string]string{}, flags, "").
		Store(&result)
	switch {
	case err != nil:
		return fmt.Errorf("cannot ask polkit whether you may do this: %w; root may without it", polkitError(err))
	case result.Authorized:
		return nil
	case result.Challenge && flags == 0:
		return fault.New(fault.NotPermitted, "not permitted without a password (polkit action %s): allow to be asked for it, or do it as root", action)
	}
	return fault.New(fault.NotPermitted, "not permitted (polkit action %s): do it as root, for instance with sudo", action)
}

// polkitError says in words what a failed question means.
func polkitError(err error) error {
	var e dbus.Error
	switch {
	case errors.As(err, &e) && (e.Name == "org.freedesktop.DBus.Error.ServiceUnknown" || e.Name == "org.freedesktop.DBus.Error.NameHasNoOwner"):
		return fault.New(fault.NotPermitted, "it is not running: apt install polkitd")
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.NotPermitted, "it does not answer")
	}
	// systemd, which starts it, ends its sentences with a full stop.
	return fault.New(fault.NotPermitted, "%s", strings.TrimSuffix(err.Error(), "."))
}

// uid is the caller's user id, as the bus knows it.
func (c *call) uid() (uint32, error) {
	ctx, cancel := context.WithTimeout(c.ctx, busLimit)
	defer cancel()
	var uid uint32
	err := c.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixUser", 0, c.sender).Store(&uid)
	if err != nil {
		return 0, fault.New(fault.NotPermitted, "cannot find out who is calling: %w", err)
	}
	return uid, nil
}

// caller is who is calling, for the log and the records.
func (c *call) caller() (string, error) {
	uid, err := c.uid()
	if err != nil {
		return "", err
	}
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(id)
	if err != nil { // not everybody has a name
		return "user " + id, nil
	}
	return u.Username, nil
}
