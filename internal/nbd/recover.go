package nbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Recover detaches the devices that a killed esxid left attached, and removes
// their records from lockDir. It touches no device that somebody else attached,
// neither a living esxid nor another program. Where nothing was left behind
// (lockDir need not exist) it costs one read of the directory.
func Recover(ctx context.Context, lockDir string) error {
	return thisHost().recover(ctx, lockDir)
}

func (h host) recover(ctx context.Context, lockDir string) error {
	entries, err := os.ReadDir(lockDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for nbd devices left attached: %w", err)
	}
	var errs error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if _, isDevice := deviceNumber(name); !ok || !isDevice {
			continue
		}
		if err := h.recoverDevice(ctx, name, filepath.Join(lockDir, e.Name())); err != nil {
			errs = errors.Join(errs, fmt.Errorf("cannot detach %s, which a killed esxid left attached: %w", h.node(name), err))
		}
	}
	return errs
}

func (h host) recoverDevice(ctx context.Context, name, path string) error {
	c, err := openClaim(path, os.O_RDONLY)
	if errors.Is(err, errInUse) || errors.Is(err, os.ErrNotExist) {
		return nil // its owner lives, or has just removed it
	}
	if err != nil {
		return err
	}
	if r, ok := c.read(); ok && h.isOurs(name, r) {
		if err := h.disconnect(ctx, name); err != nil {
			c.close()
			return fmt.Errorf("%w: run as root: qemu-nbd --disconnect %s", err, h.node(name))
		}
		if err := h.awaitFree(ctx, name); err != nil {
			c.close()
			return err
		}
	}
	return c.remove()
}

// isOurs tells whether a device is still served by what the record's owner
// started. The server proves it by its arguments, which name the device and the
// image. A dead server needs no help: the kernel has freed its device.
func (h host) isOurs(name string, r record) bool {
	args := h.commandLine(h.server(name))
	for _, arg := range identity(h.node(name), r.Disk) {
		if !slices.Contains(args, arg) {
			return false
		}
	}
	return true
}
