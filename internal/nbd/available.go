package nbd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

// instead ends every error of Available: what to do when the cause stays.
const instead = `; or set image.access = "direct"`

// Available returns why the kernel's nbd cannot be used by this process, or nil.
// It loads the kernel's module if that is missing, through systemd.
func Available(ctx context.Context) error {
	return thisHost().available(ctx)
}

func (h host) available(ctx context.Context) error {
	// What needs no module comes first: whoever may not attach a device shall
	// not have systemd load one, or ask the user for a password to do it.
	if _, err := command.LookPath("qemu-nbd"); err != nil {
		return fault.New(fault.Unavailable, "%w"+instead, err)
	}
	if err := h.mayAttach(); err != nil {
		return err
	}
	if err := h.haveModule(ctx); err != nil {
		return err
	}
	return h.haveDevice(ctx)
}

// initialPIDNamespace is the inode of the first process namespace, which is
// part of the kernel's interface (PROC_PID_INIT_INO in linux/proc_ns.h).
const initialPIDNamespace = "pid:[4026531836]"

// mayAttach checks the capability that the driver asks for. The kernel names a
// device's server by its number outside of containers, and the lock directory of
// a container is not the host's, so inside of one devices cannot be told apart.
func (h host) mayAttach() error {
	status, err := os.ReadFile(h.path("proc/self/status"))
	if err != nil {
		return fault.New(fault.Unavailable, "cannot read the capabilities of this process: %w"+instead, err)
	}
	if capabilities(string(status))&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return fault.New(fault.NotPermitted, "cannot use nbd devices without CAP_SYS_ADMIN: run as root"+instead)
	}
	if ns, err := os.Readlink(h.path("proc/self/ns/pid")); err == nil && ns != initialPIDNamespace {
		return fault.New(fault.Unavailable, "cannot use nbd devices in a container: run on the host"+instead)
	}
	return nil
}

// capabilities returns the effective set in the text of /proc/PID/status.
func capabilities(status string) uint64 {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64) // none if it cannot be read
			return set
		}
	}
	return 0
}

// haveDevice checks that there is a free device which may be opened. A device
// in use is not opened: closing it could disconnect it.
func (h host) haveDevice(ctx context.Context) error {
	names, err := h.devices()
	if err != nil {
		return fault.New(fault.Unavailable, "cannot list nbd devices: %w"+instead, err)
	}
	for _, name := range names {
		if !h.free(name) {
			continue
		}
		f, err := h.openNode(ctx, name, os.O_RDWR)
		if err != nil {
			class := fault.Unavailable
			if errors.Is(err, fs.ErrPermission) {
				class = fault.NotPermitted
			}
			return fault.New(class, "cannot use nbd devices: %w: check that /dev is the host's, the rights on /dev/nbd*, and DeviceAllow= of the unit"+instead, err)
		}
		return f.Close()
	}
	return fault.New(fault.TryLater, "cannot use nbd devices: %w"+instead, allInUse(len(names)))
}
