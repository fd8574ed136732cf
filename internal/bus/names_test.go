package bus

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
)

func TestEscape(t *testing.T) {
	for plain, escaped := range map[string]string{
		"": "_", "abc": "abc", "a1": "a1", "1a": "_31a", "8.0.3-24677879-1a2b3c4d": "_38_2e0_2e3_2d24677879_2d1a2b3c4d",
		"_": "_5f", "ä": "_c3_a4", "a/b": "a_2fb",
	} {
		if got := escape(plain); got != escaped {
			t.Errorf("escape(%q) = %q, want %q", plain, got, escaped)
		}
		if got, ok := unescape(escaped); !ok || got != plain {
			t.Errorf("unescape(%q) = %q, %v, want %q", escaped, got, ok, plain)
		}
	}
	for _, bad := range []string{"", "a_", "a_5", "_zz", "_61", "1a", "a_2Fb", "a-b"} {
		if got, ok := unescape(bad); ok {
			t.Errorf("unescape(%q) = %q", bad, got)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("8.0.3-24677879-1a2b3c4d")
	f.Add("_5f\x00ä")
	f.Fuzz(func(t *testing.T, s string) {
		if !BuildPath(s).IsValid() {
			t.Errorf("%q gives the path %q", s, BuildPath(s))
		}
		if got, ok := BuildID(BuildPath(s)); !ok || got != s {
			t.Errorf("%q comes back as %q, %v", s, got, ok)
		}
		if plain, ok := unescape(s); ok && escape(plain) != s {
			t.Errorf("two paths, %q and %q, for %q", s, escape(plain), plain)
		}
	})
}

func TestErrorNames(t *testing.T) {
	for class := range classNames {
		if got, ok := ClassOfName(errorName(class)); !ok || got != class {
			t.Errorf("class %d comes back as %d, %v", class, got, ok)
		}
	}
	if _, ok := ClassOfName("org.freedesktop.DBus.Error.Failed"); ok {
		t.Error("a foreign error has a class")
	}
	e := toDBus(fault.New(fault.Input, "bad\xff\x00name"))
	if e.Name != "org.esxid1.Error.BadInput" || e.Body[0] != "bad??name" {
		t.Errorf("got %+v", e)
	}
}

// The values on the bus have the types that the introspection promises.
func TestSignatures(t *testing.T) {
	tree := newTree(sample(), "1.0", "/incoming")
	tree[logControlPath] = newServer(t, newService()).logControlObject()
	all := specs()
	for path, o := range tree {
		for _, name := range o.interfaces {
			spec := all[name]
			if len(spec.properties) != len(o.values[name]) {
				t.Errorf("%s of %s has %d values for %d properties", name, path, len(o.values[name]), len(spec.properties))
			}
			for _, p := range spec.properties {
				if got := dbus.SignatureOf(o.values[name][p.name]).String(); got != p.signature {
					t.Errorf("%s.%s is of type %s, not %s", name, p.name, got, p.signature)
				}
			}
		}
	}
}

// The manual describes all there is.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/man/esxid-dbus.7")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^\.B "?([A-Z][A-Za-z0-9]+)(\(.*\))?"?( .*)?$`).FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	for _, i := range specs() {
		if !strings.Contains(string(text), i.name) {
			t.Errorf("the manual does not name %s", i.name)
		}
		if !strings.HasPrefix(i.name, Name+".") {
			continue
		}
		var members []string
		for _, m := range i.methods {
			members = append(members, m.name)
		}
		for _, p := range i.properties {
			members = append(members, p.name)
		}
		for _, s := range i.signals {
			members = append(members, s.name)
		}
		for _, member := range members {
			if !slices.Contains(documented, member) {
				t.Errorf("the manual does not describe %s of %s", member, i.name)
			}
		}
	}
	for _, name := range classNames {
		if !slices.Contains(documented, name) {
			t.Errorf("the manual does not describe the error %s", name)
		}
	}
}

// polkit knows the actions that are asked for, and lets esxid ask.
func TestActions(t *testing.T) {
	text, err := os.ReadFile("../../systemd/org.esxid1.policy")
	if err != nil {
		t.Fatal(err)
	}
	var defined, asked []string
	for _, m := range regexp.MustCompile(`<action id="([^"]+)">`).FindAllStringSubmatch(string(text), -1) {
		defined = append(defined, m[1])
	}
	for _, i := range specs() {
		for _, m := range i.methods {
			if m.action != "" && !slices.Contains(asked, m.action) {
				asked = append(asked, m.action)
			}
			if slices.Contains(m.in, options) != (m.action != "") {
				t.Errorf("%s: a method that needs a right takes options, and no other does", m.name)
			}
		}
	}
	slices.Sort(defined)
	slices.Sort(asked)
	if !slices.Equal(defined, asked) {
		t.Errorf("defined: %v, asked for: %v", defined, asked)
	}
	if n := strings.Count(string(text), `<annotate key="org.freedesktop.policykit.owner">unix-user:esxid</annotate>`); n != len(defined) {
		t.Errorf("esxid owns %d of %d actions", n, len(defined))
	}
}
