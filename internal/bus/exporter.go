package bus

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// exporter keeps the tree that is on the bus, and tells the bus how it differs from the one
// before.
type exporter struct {
	conn  *dbus.Conn
	specs map[string]*iface

	mu   sync.Mutex
	tree tree
}

// replace replaces the tree and tells what is different. The first tree is no news. An error means
// that the connection is lost.
func (x *exporter) replace(next tree) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	last := x.tree
	x.tree = next
	if last == nil {
		return nil
	}
	for _, path := range slices.Sorted(maps.Keys(last)) {
		if _, ok := next[path]; !ok && managed(path) {
			if err := x.conn.Emit(Root, ObjectManager+".InterfacesRemoved", path, last[path].interfaces); err != nil {
				return err
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(next)) {
		before, ok := last[path]
		var err error
		switch {
		case ok:
			err = x.emitChanges(path, before, next[path])
		case managed(path):
			err = x.conn.Emit(Root, ObjectManager+".InterfacesAdded", path, next[path].variants())
		}
		if err != nil {
			return err
		}
	}
	return x.emitBuildSignals(last, next)
}

// managed says whether an object is one the object manager tells about.
func managed(path dbus.ObjectPath) bool { return strings.HasPrefix(string(path), string(Root)+"/") }

// emitChanges sends one PropertiesChanged for each interface of which something has changed.
func (x *exporter) emitChanges(path dbus.ObjectPath, before, now object) error {
	for _, name := range now.interfaces {
		changed := map[string]dbus.Variant{}
		for property, value := range now.values[name] {
			spec := x.specs[name].property(property)
			if spec.emits == "true" && !reflect.DeepEqual(before.values[name][property], value) {
				changed[property] = dbus.MakeVariant(value)
			}
		}
		if len(changed) == 0 {
			continue
		}
		if err := x.conn.Emit(path, Properties+".PropertiesChanged", name, changed, []string{}); err != nil {
			return err
		}
	}
	return nil
}

// emitBuildSignals sends BuildAdded and BuildFinished.
func (x *exporter) emitBuildSignals(last, next tree) error {
	for _, path := range slices.Sorted(maps.Keys(next)) {
		now := next[path].values[BuildInterface]
		if now == nil {
			continue
		}
		before := last[path].values[BuildInterface]
		if before == nil {
			if err := x.conn.Emit(Root, ManagerInterface+".BuildAdded", path, now["Id"]); err != nil {
				return err
			}
		}
		if now["Result"] != "" && (before == nil || before["Result"] != now["Result"]) {
			if err := x.conn.Emit(Root, ManagerInterface+".BuildFinished", path, now["Id"], now["Result"]); err != nil {
				return err
			}
		}
	}
	return nil
}

// variants are the object's values as GetManagedObjects has them.
func (o object) variants() map[string]map[string]dbus.Variant {
	out := map[string]map[string]dbus.Variant{}
	for _, name := range o.interfaces {
		out[name] = map[string]dbus.Variant{}
		for property, value := range o.values[name] {
			out[name][property] = dbus.MakeVariant(value)
		}
	}
	return out
}

// object returns what is at a path, and the names below it.
func (x *exporter) object(path dbus.ObjectPath) (o object, children []string, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	prefix := strings.TrimSuffix(string(path), "/") + "/"
	below := map[string]bool{}
	for other := range x.tree {
		if rest, isBelow := strings.CutPrefix(string(other), prefix); isBelow {
			name, _, _ := strings.Cut(rest, "/")
			below[name] = true
		}
	}
	o, ok = x.tree[path]
	return o, slices.Sorted(maps.Keys(below)), ok || len(below) > 0
}

// managedObjects are all objects of the object manager.
func (x *exporter) managedObjects() map[dbus.ObjectPath]map[string]map[string]dbus.Variant {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[dbus.ObjectPath]map[string]map[string]dbus.Variant{}
	for path, o := range x.tree {
		if managed(path) {
			out[path] = o.variants()
		}
	}
	return out
}
