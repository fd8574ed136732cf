package bus

import (
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// session is the server during one connection to the bus. It answers all calls that come in:
// godbus asks it for an object, that for an interface, that for a method, and it
// says yes to all, because a call that is refused has to be looked at too: there may be file
// descriptors in it, which somebody has to close.
type session struct {
	*Server
	*exporter
	ctx        context.Context // ends with the connection
	refreshing sync.Mutex

	counting sync.Mutex
	calls    map[string]int // that are being worked on, by their sender
}

// maxCalls is how many calls of one connection are worked on at a time. Some take as long as
// a person needs to type a password, and each takes memory.
const maxCalls = 32

// enter counts a call of a sender, and says whether it may be worked on.
func (s *session) enter(sender string) bool {
	s.counting.Lock()
	defer s.counting.Unlock()
	if s.calls[sender] >= maxCalls {
		return false
	}
	s.calls[sender]++
	return true
}

// leave ends what enter began.
func (s *session) leave(sender string) {
	s.counting.Lock()
	defer s.counting.Unlock()
	if s.calls[sender]--; s.calls[sender] == 0 {
		delete(s.calls, sender)
	}
}

func (s *session) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return s, true }
func (s *session) LookupInterface(string) (dbus.Interface, bool)          { return s, true }
func (s *session) LookupMethod(string) (dbus.Method, bool)                { return s, true }

// DecodeArguments finds the method that is called.
func (s *session) DecodeArguments(_ *dbus.Conn, sender string, msg *dbus.Message, body []any) ([]any, error) {
	c := &call{session: s, ctx: s.ctx, sender: sender, msg: msg, body: body}
	if err := c.find(); err != nil {
		c.closeFiles()
		return nil, err
	}
	return []any{c}, nil
}

// Call runs the method that was found.
func (s *session) Call(args ...any) ([]any, error) {
	c, ok := args[0].(*call)
	if !ok {
		return nil, dbus.ErrMsgInvalidArg
	}
	defer c.closeFiles()
	if !s.enter(c.sender) {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.LimitsExceeded", []any{"too many calls at a time: wait for the replies of some"})
	}
	defer s.leave(c.sender)
	if c.method.action != "" {
		if err := c.authorize(c.method.action); err != nil {
			return nil, toDBus(err)
		}
	}
	reply, err := c.method.call(c)
	if err != nil {
		if named, ok := err.(*dbus.Error); ok { //nolint:errorlint // only those made here carry a name of their own
			return nil, named
		}
		return nil, toDBus(err)
	}
	return reply, nil
}

// The rest of dbus.Method is for methods that are Go functions.

func (s *session) NumArguments() int     { return 0 }
func (s *session) NumReturns() int       { return 0 }
func (s *session) ArgumentValue(int) any { return nil }
func (s *session) ReturnValue(int) any   { return nil }

// call is one call of a method.
type call struct {
	*session
	ctx    context.Context
	sender string
	msg    *dbus.Message
	body   []any // as the method's signature says

	path     dbus.ObjectPath
	object   object
	children []string
	method   *method
}

// standard are the interfaces of every object.
var standard = []string{Properties, introspectable}

// find looks up the object and the method, and checks the arguments' types.
func (c *call) find() error {
	c.path = header[dbus.ObjectPath](c.msg, dbus.FieldPath)
	interfaceName, member := header[string](c.msg, dbus.FieldInterface), header[string](c.msg, dbus.FieldMember)
	var ok bool
	if c.object, c.children, ok = c.exporter.object(c.path); !ok {
		return dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"there is no object " + string(c.path)})
	}
	interfaces := []string{introspectable} // of a node on the way
	if c.object.interfaces != nil {
		interfaces = append(slices.Clone(c.object.interfaces), standard...)
	}
	if interfaceName != "" {
		if !slices.Contains(interfaces, interfaceName) {
			return dbus.NewError("org.freedesktop.DBus.Error.UnknownInterface", []any{string(c.path) + " has no interface " + interfaceName})
		}
		interfaces = []string{interfaceName}
	}
	for _, name := range interfaces {
		if c.method = c.specs[name].method(member); c.method != nil {
			break
		}
	}
	if c.method == nil {
		return dbus.NewError("org.freedesktop.DBus.Error.UnknownMethod", []any{string(c.path) + " has no method " + member})
	}
	if got := header[dbus.Signature](c.msg, dbus.FieldSignature).String(); got != c.method.signature() {
		return dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{member + " takes arguments of the types " + c.method.signature() + ", not " + got})
	}
	return c.checkOptions()
}

// checkOptions refuses options, of which none is known.
func (c *call) checkOptions() error {
	if len(c.method.in) == 0 || c.method.in[len(c.method.in)-1] != options {
		return nil
	}
	given, _ := c.body[len(c.body)-1].(map[string]dbus.Variant)
	for name := range given {
		return dbus.NewError(errorPrefix+"InvalidArgument", []any{"unknown option " + text(name)})
	}
	return nil
}

// closeFiles closes the descriptors that came with the call.
func (c *call) closeFiles() {
	for _, arg := range c.body {
		if fd, ok := arg.(dbus.UnixFD); ok && fd >= 0 {
			_ = syscall.Close(int(fd))
		}
	}
}

// header is a field of a message's header, or the zero value.
func header[T any](msg *dbus.Message, field dbus.HeaderField) T {
	value, _ := msg.Headers[field].Value().(T)
	return value
}

func (c *call) introspect() ([]any, error) {
	var ifaces []*iface
	names := []string{introspectable}
	if c.object.interfaces != nil {
		names = slices.Concat(c.object.interfaces, standard)
	}
	for _, name := range names {
		ifaces = append(ifaces, c.specs[name])
	}
	text, err := introspection(ifaces, c.children)
	return []any{text}, err
}

func (c *call) getManagedObjects() ([]any, error) { return []any{c.managedObjects()}, nil }

// values returns the values of the interface that a call of Properties is about. The
// empty name stands for all of the object's own.
func (c *call) values(name string) (map[string]any, error) {
	if name == "" {
		all := map[string]any{}
		for _, own := range c.object.values {
			for property, value := range own {
				all[property] = value
			}
		}
		return all, nil
	}
	if !slices.Contains(c.object.interfaces, name) && !slices.Contains(standard, name) {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownInterface", []any{string(c.path) + " has no interface " + text(name)})
	}
	return c.object.values[name], nil
}

func (c *call) get() ([]any, error) {
	name, _ := c.body[1].(string)
	ifaceName, _ := c.body[0].(string)
	values, err := c.values(ifaceName)
	if err != nil {
		return nil, err
	}
	value, ok := values[name]
	if !ok {
		return nil, noProperty(c.path, name)
	}
	return []any{dbus.MakeVariant(value)}, nil
}

func (c *call) getAll() ([]any, error) {
	ifaceName, _ := c.body[0].(string)
	values, err := c.values(ifaceName)
	if err != nil {
		return nil, err
	}
	out := map[string]dbus.Variant{}
	for name, value := range values {
		out[name] = dbus.MakeVariant(value)
	}
	return []any{out}, nil
}

func (c *call) set() ([]any, error) {
	ifaceName, _ := c.body[0].(string)
	name, _ := c.body[1].(string)
	value, _ := c.body[2].(dbus.Variant)
	for _, own := range c.object.interfaces {
		if ifaceName != "" && ifaceName != own {
			continue
		}
		p := c.specs[own].property(name)
		switch {
		case p == nil:
		case p.set == nil:
			return nil, dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly", []any{"the property " + name + " cannot be changed"})
		case value.Signature().String() != p.signature:
			return nil, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{name + " is of the type " + p.signature})
		default:
			return nil, p.set(c, value)
		}
	}
	return nil, noProperty(c.path, name)
}

func noProperty(path dbus.ObjectPath, name string) error {
	return dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{string(path) + " has no property " + text(strings.TrimSpace(name))})
}
