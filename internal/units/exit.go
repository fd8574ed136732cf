// Package units has systemd run the steps that need other rights than the service
// has: esxid-install@.service and esxid-customize@.service, one instance per
// build. It starts such a unit over D-Bus, follows it to its end and says how it
// ended.
//
// Nothing polls: systemd tells of every change, and the connection of its own
// end. A connection that is lost, because D-Bus or systemd is restarted, is made
// again with a growing pause; a unit does not notice.
package units

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// Name returns the unit of a step of a build.
func Name(step, build string) string { return "esxid-" + step + "@" + build + ".service" }

// Parse is the reverse of Name.
func Parse(unit string) (step, build string, ok bool) {
	rest, ok := strings.CutSuffix(unit, ".service")
	if !ok {
		return "", "", false
	}
	if rest, ok = strings.CutPrefix(rest, "esxid-"); !ok {
		return "", "", false
	}
	return strings.Cut(rest, "@")
}

// Exit is how a unit ended.
type Exit struct {
	Unit string
	// Result is systemd's word for it: success, exit-code, signal, core-dump,
	// oom-kill, timeout, watchdog, resources … (systemd.service(5)). It is empty if
	// nobody saw the end: the unit had ended before it was looked at, and systemd
	// has forgotten it.
	Result string
	// Code is the exit status of the main process or the signal that ended it; 0 if
	// it never started.
	Code int
	// Status is the last status text, or empty.
	Status string
}

// Err is why a unit that left no result ended.
func (e Exit) Err() error {
	phase := ""
	if e.Status != "" {
		phase = fmt.Sprintf(" (it was at: %s)", e.Status)
	}
	look := "; look at: journalctl -u " + e.Unit
	switch e.Result {
	case "", "success":
		return fault.New(fault.TryLater, "%s ended without a result%s%s", e.Unit, phase, look)
	case "oom-kill":
		return fault.New(fault.TryLater, "%s ran out of memory%s: the host needs more, or less else running on it%s", e.Unit, phase, look)
	case "signal":
		// Whoever sends one of these means the process; the others are its own fault.
		class := fault.Failed
		if s := unix.Signal(e.Code); s == unix.SIGKILL || s == unix.SIGTERM || s == unix.SIGINT || s == unix.SIGHUP {
			class = fault.TryLater
		}
		return fault.New(class, "%s was ended by %s%s%s", e.Unit, unix.SignalName(unix.Signal(e.Code)), phase, look)
	case "exit-code":
		return fault.New(classOf(e.Code), "%s failed with exit status %d%s%s", e.Unit, e.Code, phase, look)
	case "timeout":
		return fault.New(fault.TryLater, "%s did not end when it was told to, and was killed%s%s", e.Unit, phase, look)
	}
	return fault.New(fault.Unavailable, "systemd cannot run %s: %s%s%s", e.Unit, e.Result, phase, look)
}

// systemdCodes begin the exit statuses that systemd gives a process it could not
// set up, such as 203 for a program that is not there (systemd.exec(5)).
const systemdCodes = 200

// classOf is the class that an exit status of esxid stands for.
func classOf(code int) fault.Class {
	switch class := fault.Class(code); {
	case code >= systemdCodes:
		return fault.Unavailable
	case class == fault.Input, class == fault.Unavailable, class == fault.CannotWrite, class == fault.TryLater,
		class == fault.NotPermitted, class == fault.Config:
		return class
	}
	return fault.Failed
}
