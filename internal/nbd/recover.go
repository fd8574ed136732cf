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
	return host{root: "/"}.recover(ctx, lockDir)
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
	c, err := openClaim(path, os.O_RDWR)
	if errors.Is(err, errInUse) || errors.Is(err, os.ErrNotExist) {
		return nil // its owner lives, or has just removed it
	}
	if err != nil {
		return err
	}
	if r, ok := c.read(); ok && h.isOurs(name, r) {
		err := h.disconnect(ctx, name)
		if err == nil {
			err = h.awaitFree(ctx, name)
		}
		if err != nil {
			c.close()
			return err
		}
	}
	return c.remove()
}

// isOurs tells whether a device is still connected to what the record says. A
// living server proves it by its arguments, which name the device and the
// image. The device of a dead server, which some program still has open, can
// only be known by the server's number.
func (h host) isOurs(name string, r record) bool {
	server := h.server(name)
	if server == 0 {
		return false
	}
	line, alive := h.commandLine(server)
	if !alive {
		return server == r.Server
	}
	want := serverArgs(h.node(name), r.Disk)
	return len(line) > len(want) && slices.Equal(line[len(line)-len(want):], want)
}
