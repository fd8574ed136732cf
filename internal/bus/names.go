package bus

import (
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
)

// Names on the bus, as esxid-dbus(7) documents them.
const (
	Name = "org.esxid1"

	Root      = dbus.ObjectPath("/org/esxid1")
	buildRoot = Root + "/build/"
	imageRoot = Root + "/image/"

	ManagerInterface = Name + ".Manager"
	BuildInterface   = Name + ".Build"
	ImageInterface   = Name + ".Image"

	errorPrefix = Name + ".Error."
)

// Interfaces that the D-Bus specification and org.freedesktop.LogControl1(5) define.
const (
	Properties     = "org.freedesktop.DBus.Properties"
	ObjectManager  = "org.freedesktop.DBus.ObjectManager"
	introspectable = "org.freedesktop.DBus.Introspectable"
	logControl     = "org.freedesktop.LogControl1"
	logControlPath = dbus.ObjectPath("/org/freedesktop/LogControl1")
	notSupported   = "org.freedesktop.DBus.Error.NotSupported"
)

// BuildPath is the object of a build.
func BuildPath(id string) dbus.ObjectPath { return buildRoot + dbus.ObjectPath(escape(id)) }

// BuildID is the build of an object.
func BuildID(path dbus.ObjectPath) (id string, ok bool) {
	escaped, ok := strings.CutPrefix(string(path), string(buildRoot))
	if !ok {
		return "", false
	}
	return unescape(escaped)
}

// ImagePath is the object of an image.
func ImagePath(id string) dbus.ObjectPath { return imageRoot + dbus.ObjectPath(escape(id)) }

// escape makes a string one element of an object path, as sd_bus_path_encode(3)
// does: what is not an ASCII letter or digit, and a digit at the beginning, is written as _xx in
// hexadecimal; the empty string is "_".
func escape(s string) string {
	if s == "" {
		return "_"
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if isLetter(c) || i > 0 && isDigit(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteString("_" + string(hexDigits[c>>4]) + string(hexDigits[c&15]))
	}
	return b.String()
}

// unescape is the reverse of escape. It refuses what escape does not make, so that
// an object has one path.
func unescape(s string) (string, bool) {
	if s == "_" {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '_' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		high, low := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), s != "" && escape(b.String()) == s
}

const hexDigits = "0123456789abcdef"

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// classNames are the errors' names on the bus, without errorPrefix.
var classNames = map[fault.Class]string{
	fault.Failed:       "Failed",
	fault.Usage:        "InvalidArgument",
	fault.Input:        "BadInput",
	fault.Unavailable:  "Unavailable",
	fault.CannotWrite:  "CannotWrite",
	fault.TryLater:     "TryLater",
	fault.NotPermitted: "NotPermitted",
	fault.Config:       "BadConfiguration",
}

// errorName is the name of an error of a class.
func errorName(c fault.Class) string {
	if name, ok := classNames[c]; ok {
		return errorPrefix + name
	}
	return errorPrefix + classNames[fault.Failed]
}

// ClassOfName is the class of an error with a name, if it is one of ours.
func ClassOfName(name string) (fault.Class, bool) {
	for class, short := range classNames {
		if errorPrefix+short == name {
			return class, true
		}
	}
	return 0, false
}

// toDBus makes an error what a caller on the bus gets.
func toDBus(err error) *dbus.Error {
	return dbus.NewError(errorName(fault.ClassOf(err)), []any{text(err.Error())})
}

// text makes a string one that D-Bus takes: UTF-8 without NUL. Messages quote file names,
// installers and servers.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}
