package nbd

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// moduleUnit loads the module; it is part of systemd since version 245.
const moduleUnit = "modprobe@nbd.service"

// haveModule makes sure that the driver is in the kernel.
func (h host) haveModule(ctx context.Context) error {
	if h.moduleLoaded() {
		return nil
	}
	if err := h.loadModule(ctx); err != nil {
		return err
	}
	if !h.moduleLoaded() {
		return h.noModule()
	}
	return nil
}

func (h host) moduleLoaded() bool {
	_, err := os.Stat(h.path("sys/module/nbd"))
	return err == nil
}

// loadModule has systemd load the module. The unit ignores modprobe's failure,
// so the job's result says nothing.
func (h host) loadModule(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.limits.module)
	defer cancel()
	conn, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return fault.New(fault.Unavailable, "the kernel module nbd is not loaded and systemd cannot be asked to load it (%w): run as root: modprobe nbd"+instead, err)
	}
	defer conn.Close()
	if err := runJob(ctx, conn, conn.StartUnitContext); err != nil || h.moduleLoaded() {
		return err
	}
	// The unit stays active once it ran, and starting it again does nothing:
	// somebody may have unloaded the module since then.
	if err := runJob(ctx, conn, conn.StopUnitContext); err != nil {
		return err
	}
	return runJob(ctx, conn, conn.StartUnitContext)
}

// runJob starts a job for the unit and waits for its end.
func runJob(ctx context.Context, conn *dbus.Conn, method func(context.Context, string, string, chan<- string) (int, error)) error {
	// Room for one, because the connection's dispatcher waits while it writes.
	done := make(chan string, 1)
	if _, err := method(ctx, moduleUnit, "replace", done); err != nil {
		return jobError(err)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "systemd does not finish %s: %w: look at: systemctl status %[1]s"+instead, moduleUnit, ctx.Err())
		case <-tick.C: // a lost connection closes no channel
			if !conn.Connected() && ctx.Err() == nil { // whose end closes it too
				return fault.New(fault.Unavailable, "the connection to systemd was lost while it ran %s"+instead, moduleUnit)
			}
		}
	}
}

// jobError says what systemd's refusal means.
func jobError(err error) error {
	var e godbus.Error
	if errors.As(err, &e) {
		switch e.Name {
		case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
			return fault.New(fault.NotPermitted, "systemd does not let this user start %s: %w: run as root: modprobe nbd"+instead, moduleUnit, err)
		}
	}
	return fault.New(fault.Unavailable, "systemd cannot start %s: %w: run as root: modprobe nbd"+instead, moduleUnit, err)
}

// noModule says which package is missing.
func (h host) noModule() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fault.New(fault.Unavailable, "the kernel has no module nbd"+instead)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if _, err := os.Stat(h.path("lib/modules", release)); err != nil {
		return fault.New(fault.Unavailable, "the modules of the running kernel %s are not installed: reboot if the kernel was upgraded"+instead, release)
	}
	return fault.New(fault.Unavailable, "the kernel %s comes without the module nbd: install linux-modules-extra-%[1]s (Ubuntu), or run the kernel of linux-image-amd64 (Debian)"+instead, release)
}
