package bus

import (
	"encoding/xml"
	"slices"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// iface describes an interface: what is introspected is what is called.
type iface struct {
	name       string
	methods    []method
	properties []property
	signals    []signal
}

// method is a method of an interface.
type method struct {
	name    string
	in, out []arg
	// action is the polkit action a caller needs; "": none.
	action string
	call   func(*call) ([]any, error)
}

// property is a property of an interface. Its value is in object.values.
type property struct {
	name, signature string
	emits           string // as in the EmitsChangedSignal annotation: "true", "const" or "false"
	// set changes it; nil: it cannot be changed.
	set func(*call, dbus.Variant) error
}

type signal struct {
	name string
	args []arg
}

type arg struct{ name, signature string }

// options is the last argument of every method that changes something, so that there
// can be more to say later. No option is known yet, and an unknown one is refused.
var options = arg{"options", "a{sv}"}

func (i *iface) method(name string) *method {
	if at := slices.IndexFunc(i.methods, func(m method) bool { return m.name == name }); at >= 0 {
		return &i.methods[at]
	}
	return nil
}

func (i *iface) property(name string) *property {
	if at := slices.IndexFunc(i.properties, func(p property) bool { return p.name == name }); at >= 0 {
		return &i.properties[at]
	}
	return nil
}

// signature of a method's arguments.
func (m *method) signature() string {
	s := ""
	for _, a := range m.in {
		s += a.signature
	}
	return s
}

// introspection is the XML about an object (D-Bus specification, "Introspection Data Format").
func introspection(ifaces []*iface, children []string) (string, error) {
	node := introspect.Node{Interfaces: []introspect.Interface{introspect.PeerData}}
	for _, i := range ifaces {
		node.Interfaces = append(node.Interfaces, i.introspected())
	}
	for _, name := range children {
		node.Children = append(node.Children, introspect.Node{Name: name})
	}
	text, err := xml.MarshalIndent(node, "", "  ")
	return introspect.IntrospectDeclarationString + string(text) + "\n", err
}

func (i *iface) introspected() introspect.Interface {
	out := introspect.Interface{Name: i.name}
	for _, m := range i.methods {
		out.Methods = append(out.Methods, introspect.Method{Name: m.name, Args: append(introspected(m.in, "in"), introspected(m.out, "out")...)})
	}
	for _, p := range i.properties {
		access := "read"
		if p.set != nil {
			access = "readwrite"
		}
		out.Properties = append(out.Properties, introspect.Property{
			Name: p.name, Type: p.signature, Access: access,
			Annotations: []introspect.Annotation{{Name: "org.freedesktop.DBus.Property.EmitsChangedSignal", Value: p.emits}},
		})
	}
	for _, s := range i.signals {
		out.Signals = append(out.Signals, introspect.Signal{Name: s.name, Args: introspected(s.args, "")})
	}
	return out
}

func introspected(args []arg, direction string) []introspect.Arg {
	var out []introspect.Arg
	for _, a := range args {
		out = append(out, introspect.Arg{Name: a.name, Type: a.signature, Direction: direction})
	}
	return out
}
