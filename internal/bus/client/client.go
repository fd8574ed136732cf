// Package client is how esxid's own commands talk to the service over D-Bus, as esxid-dbus(7)
// describes it. An error that the service returns has the class it has there (package fault);
// one of the bus says what to do.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/bus"
	"github.com/esxid/esxid/internal/fault"
)

// callLimit bounds a call that only reads. One that changes something may wait for a password
// or for a virtual machine to end.
const callLimit = 25 * time.Second

// Client is a connection to the service.
type Client struct{ conn *dbus.Conn }

// Connect connects to the system bus. That the service is on it shows with the first call.
func Connect(ctx context.Context) (*Client, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot reach the service: no system bus: %w", err)
	}
	return &Client{conn}, nil
}

// Close ends the connection.
func (c *Client) Close() { c.conn.Close() }

// State is the service and all it has.
type State struct {
	Version       string  `json:"version"`
	State         string  `json:"state"`  // building, publishing or idle
	Status        string  `json:"status"` // one line for people
	QueueLength   uint32  `json:"queue_length"`
	DropDirectory string  `json:"drop_directory"`
	Builds        []Build `json:"builds"` // oldest first
	Images        []Image `json:"images"`
}

// State returns the service's state.
func (c *Client) State(ctx context.Context) (*State, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var service values
	if err := c.call(ctx, bus.Root, bus.Properties+".GetAll", bus.ManagerInterface).Store(&service); err != nil {
		return nil, explain("read the state of the service", err)
	}
	var objects map[dbus.ObjectPath]map[string]values
	if err := c.call(ctx, bus.Root, bus.ObjectManager+".GetManagedObjects").Store(&objects); err != nil {
		return nil, explain("read the builds", err)
	}
	s := &State{
		Version: get[string](service, "Version"), State: get[string](service, "State"), Status: get[string](service, "Status"),
		QueueLength: get[uint32](service, "QueueLength"), DropDirectory: get[string](service, "DropDirectory"),
		Builds: []Build{}, Images: []Image{},
	}
	imageIDs := map[dbus.ObjectPath]string{"/": ""}
	for path, interfaces := range objects {
		if v, ok := interfaces[bus.ImageInterface]; ok {
			imageIDs[path] = get[string](v, "Id")
			s.Images = append(s.Images, newImage(v))
		}
	}
	for _, interfaces := range objects {
		if v, ok := interfaces[bus.BuildInterface]; ok {
			s.Builds = append(s.Builds, newBuild(v, imageIDs))
		}
	}
	slices.SortFunc(s.Builds, func(a, b Build) int { return cmp.Or(a.Queued.Compare(b.Queued), cmp.Compare(a.ID, b.ID)) })
	slices.SortFunc(s.Images, func(a, b Image) int { return cmp.Compare(a.ID, b.ID) })
	return s, nil
}

// Cancel ends a build, and returns when it has ended.
func (c *Client) Cancel(ctx context.Context, id string) error {
	return explain("cancel "+id, c.change(ctx, bus.BuildPath(id), bus.BuildInterface, "Cancel").Err)
}

// Retry lets a failed or waiting build go on.
func (c *Client) Retry(ctx context.Context, id string) error {
	return explain("retry "+id, c.change(ctx, bus.BuildPath(id), bus.BuildInterface, "Retry").Err)
}

// Publish brings the image of a build to the targets again.
func (c *Client) Publish(ctx context.Context, id string) error {
	return explain("publish "+id, c.change(ctx, bus.BuildPath(id), bus.BuildInterface, "Publish").Err)
}

// Rebuild makes a build anew, that of an id or the one a boot resource name stands for, and
// returns its id.
func (c *Client) Rebuild(ctx context.Context, which string) (id string, err error) {
	var path dbus.ObjectPath
	if err := c.change(ctx, bus.Root, bus.ManagerInterface, "Rebuild", which).Store(&path); err != nil {
		return "", explain("rebuild "+which, err)
	}
	id, ok := bus.BuildID(path)
	if !ok {
		return "", fmt.Errorf("cannot understand the service: %s is no build", path)
	}
	return id, nil
}

// Console opens the installer's log of a build.
func (c *Client) Console(ctx context.Context, id string) (*os.File, error) {
	return c.file(ctx, id, "OpenConsole", "console.log")
}

// Screenshot opens a picture of the screen of a build's installer.
func (c *Client) Screenshot(ctx context.Context, id string) (*os.File, error) {
	return c.file(ctx, id, "Screenshot", "screen.png")
}

func (c *Client) file(ctx context.Context, id, method, name string) (*os.File, error) {
	var fd dbus.UnixFD
	if err := c.change(ctx, bus.BuildPath(id), bus.BuildInterface, method).Store(&fd); err != nil {
		return nil, explain("open "+name+" of "+id, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return nil, errors.New("cannot use the descriptor that the service sent")
	}
	return f, nil
}

// Changes returns a channel that gets a value whenever something at the service changes, it
// starts or it ends. Values that are not read in time are one. The channel is closed when the
// connection ends.
func (c *Client) Changes() (<-chan struct{}, error) {
	signals := make(chan *dbus.Signal, 64)
	c.conn.Signal(signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(bus.Name)},
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, bus.Name)},
	} {
		if err := c.conn.AddMatchSignal(match...); err != nil {
			return nil, explain("follow the service", err)
		}
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for range signals {
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}

// call calls a method that only reads. It does not start the service.
func (c *Client) call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return c.conn.Object(bus.Name, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

// change calls a method that needs a right, and has options as its last argument. The user may
// be asked for a password, which godbus's own way to call cannot say.
func (c *Client) change(ctx context.Context, path dbus.ObjectPath, iface, method string, args ...any) *dbus.Call {
	args = append(args, map[string]dbus.Variant{})
	msg := &dbus.Message{
		Type:  dbus.TypeMethodCall,
		Flags: dbus.FlagNoAutoStart | dbus.FlagAllowInteractiveAuthorization,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(bus.Name),
			dbus.FieldPath:        dbus.MakeVariant(path),
			dbus.FieldInterface:   dbus.MakeVariant(iface),
			dbus.FieldMember:      dbus.MakeVariant(method),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(args...)),
		},
		Body: args,
	}
	return <-c.conn.SendWithContext(ctx, msg, make(chan *dbus.Call, 1)).Done
}

// ErrBusClosed is the error when there was a bus and there is none any more, or another one. It
// says nothing about the service.
var ErrBusClosed = errors.New("the system bus closed the connection")

// explain gives an error of a call the class it has at the service, and says what to
// do about one of the bus.
func explain(what string, err error) error {
	var e dbus.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.TryLater, "cannot %s: the service does not answer", what)
	case errors.Is(err, dbus.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return fault.As(fault.Unavailable, fmt.Errorf("cannot %s: %w", what, ErrBusClosed))
	case !errors.As(err, &e):
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	if class, ok := bus.ClassOfName(e.Name); ok {
		return fault.As(class, errors.New(e.Error())) // says itself what could not be done
	}
	switch e.Name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
		return fault.New(fault.Unavailable, "cannot %s: esxid is not running: systemctl start esxid", what)
	case "org.freedesktop.DBus.Error.NoReply":
		return fault.New(fault.Unavailable, "cannot %s: the service ended meanwhile: systemctl status esxid", what)
	case "org.freedesktop.DBus.Error.AccessDenied":
		return fault.New(fault.NotPermitted, "cannot %s: the system bus does not permit it: %w", what, err)
	case "org.freedesktop.DBus.Error.UnknownObject":
		return fault.New(fault.TryLater, "cannot %s: it is gone meanwhile", what)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}
