// Package doctor finds out what on this host, or in this configuration, would
// keep esxid from working, and says what to do about it. It changes nothing but
// loads the kernel's nbd module, as the service would.
//
// What counts is what the service may do: its user, its group kvm for installations
// and root for block devices. Whoever asks may be somebody else. What such a user
// cannot find out is said to be unknown, and is no problem.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/publish"
)

// Level says how bad a finding is.
type Level string

const (
	OK      Level = "ok"
	Unknown Level = "unknown" // this user cannot find out
	Warning Level = "warning" // works, with a drawback
	Problem Level = "problem" // builds or publications will fail
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Detail string `json:"detail"` // what was found and, if it is not ok, what to do
}

// Subject is what is to be examined, beside the host.
type Subject struct {
	Config *config.Config
	Path   string // of the configuration file; empty: there is none
	// Unread is why this user cannot read the file; Config then has the defaults.
	Unread error
	// Targets makes the publishers of a configuration.
	Targets func(*config.Config) ([]publish.Publisher, error)
}

// asRoot is what to do about an unknown.
const asRoot = "to find out, run: sudo esxid doctor"

// Examine makes all checks, in a fixed order.
func Examine(ctx context.Context, s Subject) []Finding {
	service := serviceUser()
	var all []Finding
	add := func(f ...Finding) { all = append(all, f...) }
	add(configuration(service, s))
	add(tools(ctx, s.Config)...)
	add(accel(ctx, service, s.Config))
	add(nbdAccess(ctx, service, s.Config))
	add(memory("/proc/meminfo", s.Config))
	add(directories(service, s.Config)...)
	add(space(s.Config.StateDir))
	add(incoming(service, s.Config.StateDir)...)
	if s.Unread != nil {
		add(Finding{"targets", Unknown, "they are in the configuration; " + asRoot})
		return all
	}
	add(publishing(ctx, service, s)...)
	return all
}

// configuration checks that the service, too, can read its files.
func configuration(service account, s Subject) Finding {
	f := Finding{"configuration", OK, s.Path}
	if s.Unread != nil {
		f.Level, f.Detail = Unknown, fmt.Sprintf("%v; %s", s.Unread, asRoot)
		return f
	}
	if s.Path == "" {
		f.Detail = "there is no " + config.DefaultPath + ": every key has its default"
		return f
	}
	for _, path := range []string{s.Path, s.Config.RootPassword.File} {
		if path == "" {
			continue
		}
		if err := service.mayRead(path); err != nil {
			f.Level, f.Detail = levelOf(err), fmt.Sprintf("%v: chgrp %s %s; chmod 0640 %[3]s", err, service.group, path)
			if errors.Is(err, fs.ErrNotExist) {
				f.Detail = err.Error() + ": correct root_password.file"
			}
			return f
		}
	}
	return f
}
