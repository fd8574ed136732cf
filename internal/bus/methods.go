package bus

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// Methods of org.esxid1.Manager.

func (c *call) getBuild() ([]any, error) {
	id, _ := c.body[0].(string)
	path := BuildPath(id)
	if o, _, _ := c.exporter.object(path); o.interfaces == nil {
		return nil, noBuild(id)
	}
	return []any{path}, nil
}

func (c *call) build() ([]any, error) {
	fd, ok := c.body[0].(dbus.UnixFD)
	if !ok { // an index into descriptors that did not come: 0 would be our own
		return nil, fault.New(fault.Usage, "there is no descriptor of the ISO with the call")
	}
	name, _ := c.body[1].(string)
	f := os.NewFile(uintptr(fd), "iso")
	c.body[0] = dbus.UnixFD(-1) // f has it now
	if f == nil {
		return nil, fault.New(fault.Usage, "cannot use the descriptor of the ISO")
	}
	defer f.Close()
	by, err := c.caller()
	if err != nil {
		return nil, err
	}
	id, err := c.Service.Build(c.ctx, f, name, by)
	return c.changed([]any{BuildPath(id)}, err)
}

func (c *call) rebuildNamed() ([]any, error) {
	which, _ := c.body[0].(string)
	return c.rebuildOf(which)
}

func (c *call) publishNamed() ([]any, error) {
	id, _ := c.body[0].(string)
	return c.publishOf(id)
}

func (c *call) rescan() ([]any, error) {
	c.Service.Rescan()
	return nil, nil
}

// Methods of org.esxid1.Build.

// id of the build that is called.
func (c *call) id() string {
	id, _ := c.object.values[BuildInterface]["Id"].(string)
	return id
}

// cancelLimit bounds how long a call waits for a build to end: a virtual machine is
// stopped in seconds.
const cancelLimit = time.Minute

func (c *call) cancel() ([]any, error) {
	by, err := c.caller()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeoutCause(c.ctx, cancelLimit, fault.New(fault.TryLater, "the build was told to end and still has not: see esxid status"))
	defer stop()
	return c.changed(nil, c.Service.Cancel(ctx, c.id(), by))
}

func (c *call) retry() ([]any, error) {
	by, err := c.caller()
	if err != nil {
		return nil, err
	}
	return c.changed(nil, c.Service.Retry(c.id(), by))
}

func (c *call) rebuild() ([]any, error) {
	_, err := c.rebuildOf(c.id())
	return nil, err
}

func (c *call) publish() ([]any, error) { return c.publishOf(c.id()) }

func (c *call) rebuildOf(which string) ([]any, error) {
	by, err := c.caller()
	if err != nil {
		return nil, err
	}
	id, err := c.Service.Rebuild(which, by)
	return c.changed([]any{BuildPath(id)}, err)
}

func (c *call) publishOf(id string) ([]any, error) {
	by, err := c.caller()
	if err != nil {
		return nil, err
	}
	return c.changed(nil, c.Service.Publish(id, by))
}

// changed ends a method that changed something: whoever reads the properties after its
// reply finds what it did.
func (c *call) changed(reply []any, err error) ([]any, error) {
	if err != nil {
		return nil, err
	}
	return reply, c.refresh()
}

func (c *call) screenshot() ([]any, error) {
	png, err := c.Service.Screenshot(c.ctx, c.id())
	if err != nil {
		return nil, err
	}
	f, err := sealed("screen.png", png)
	if err != nil {
		return nil, fmt.Errorf("cannot hand over the picture: %w", err)
	}
	return nil, c.handOver(f)
}

func (c *call) openConsole() ([]any, error) {
	f, err := c.Service.Console(c.id())
	if err != nil {
		return nil, err
	}
	return nil, c.handOver(f)
}

// handOver replies with a descriptor and closes it, which must not be done before the
// reply is sent: so it is sent here.
func (c *call) handOver(f *os.File) error {
	defer f.Close()
	if c.msg.Flags&dbus.FlagNoReplyExpected != 0 {
		return nil
	}
	c.msg.Flags |= dbus.FlagNoReplyExpected
	body := []any{dbus.UnixFD(f.Fd())}
	return c.conn.Send(&dbus.Message{
		Type: dbus.TypeMethodReply,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(c.sender),
			dbus.FieldReplySerial: dbus.MakeVariant(c.msg.Serial()),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body...)),
		},
		Body: body,
	}, nil).Err
}

// sealed puts data into memory that nobody can change any more.
func sealed(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
