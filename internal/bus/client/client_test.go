package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
)

func TestExplain(t *testing.T) {
	bus := func(name string) error { return dbus.Error{Name: name, Body: []any{"because"}} }
	for _, c := range []struct {
		err   error
		class fault.Class
		text  string
	}{
		{bus("org.esxid1.Error.NotPermitted"), fault.NotPermitted, "because"},
		{bus("org.esxid1.Error.BadInput"), fault.Input, "because"},
		{bus("org.freedesktop.DBus.Error.ServiceUnknown"), fault.Unavailable, "cannot look: esxid is not running: systemctl start esxid"},
		{bus("org.freedesktop.DBus.Error.NameHasNoOwner"), fault.Unavailable, "systemctl start esxid"},
		{bus("org.freedesktop.DBus.Error.NoReply"), fault.Unavailable, "systemctl status esxid"},
		{bus("org.freedesktop.DBus.Error.AccessDenied"), fault.NotPermitted, "because"},
		{bus("org.freedesktop.DBus.Error.UnknownObject"), fault.TryLater, "gone"},
		{bus("com.example.Other"), fault.Failed, "because"},
		{context.DeadlineExceeded, fault.TryLater, "does not answer"},
		{dbus.ErrClosed, fault.Unavailable, "cannot look: the system bus closed the connection"},
		{io.EOF, fault.Unavailable, "cannot look: the system bus closed the connection"},
		{errors.New("broken"), fault.Failed, "cannot look: broken"},
	} {
		got := explain("look", c.err)
		if fault.ClassOf(got) != c.class || !strings.Contains(got.Error(), c.text) {
			t.Errorf("%v: class %d, %v", c.err, fault.ClassOf(got), got)
		}
	}
	if err := explain("look", nil); err != nil {
		t.Error(err)
	}
}

// A service of another version may lack properties or have them with other types.
func TestStrangeValues(t *testing.T) {
	b := newBuild(values{
		"Id": dbus.MakeVariant(7), "Name": dbus.MakeVariant("esxi/8.0"), "ProgressValid": dbus.MakeVariant(true), "Kickstart": dbus.MakeVariant("x"),
		"QueuedUSec": dbus.MakeVariant(uint64(math.MaxUint64)), "StepTimes": dbus.MakeVariant([]string{"x"}), "Error": dbus.MakeVariant("x"),
	}, nil)
	if b.ID != "" || b.Name != "esxi/8.0" || b.Progress == nil || !b.Queued.IsZero() || len(b.Steps) != 0 || b.Error != nil {
		t.Errorf("got %+v", b)
	}
	if _, err := json.Marshal(b); err != nil {
		t.Error(err)
	}
}

func TestTimeInJSON(t *testing.T) {
	for want, in := range map[string]Time{
		"null":                       {},
		`"2026-03-01T12:00:00.123Z"`: {time.Date(2026, 3, 1, 13, 0, 0, 123456789, time.FixedZone("", 3600))},
	} {
		if got, err := json.Marshal(in); err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
		var back Time
		if err := json.Unmarshal([]byte(want), &back); err != nil || back.IsZero() != in.IsZero() {
			t.Errorf("%s comes back as %v, %v", want, back, err)
		}
	}
}
