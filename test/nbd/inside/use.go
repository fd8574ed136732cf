package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/nbd"
)

var options = nbd.Options{LockDir: lockDir}

// available: root may attach, somebody else is told why not.
func available(ctx context.Context, _ string) error {
	if err := nbd.Available(ctx); err != nil {
		return err
	}
	nobody := []string{"--reuid=65534", "--regid=65534", "--clear-groups"}
	capable := slices.Concat(nobody, []string{"--inh-caps=+sys_admin", "--ambient-caps=+sys_admin"})
	for want, privileges := range map[string][]string{
		"without CAP_SYS_ADMIN":             nobody,
		"open /dev/nbd0: permission denied": capable,
	} {
		cmd := exec.CommandContext(ctx, "setpriv", slices.Concat(privileges, []string{os.Args[0], "available"})...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			return fmt.Errorf("%v: %q, %w; want %q", cmd.Args, out, err, want)
		}
	}
	return nil
}

// payloadIsByteEqual: writing through the kernel and writing into the file give
// the same disk. The device is locked meanwhile; mtools does not ask for a lock of
// its own, which it would not get.
func payloadIsByteEqual(ctx context.Context, dir string) error {
	direct, attached := filepath.Join(dir, "direct.raw"), filepath.Join(dir, "attached.raw")
	if err := newDisk(ctx, direct); err != nil {
		return err
	}
	before, err := os.ReadFile(direct)
	if err != nil {
		return err
	}
	if err := os.WriteFile(attached, before, 0o600); err != nil {
		return err
	}
	files := []image.PayloadFile{
		{Path: "curtin/curtin-hooks", Data: bytes.Repeat([]byte("#!/usr/bin/python3\n"), 2000)},
		{Path: "curtin/esxid/agent.py", Data: bytes.Repeat([]byte("# agent\n"), 5000)},
	}
	const size, minFree = espSectors * 512, 1 << 20
	write := func(path string, offset int64) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return image.WritePayload(ctx, image.Target{File: f, Offset: offset}, size, files, minFree)
	}
	if err := write(direct, espStart*512); err != nil {
		return err
	}

	d, err := nbd.Attach(ctx, attached, options)
	if err != nil {
		return err
	}
	if err := errors.Join(write(d.Path, espStart*512), d.Detach()); err != nil {
		return err
	}

	a, err := os.ReadFile(direct)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(attached)
	if err != nil {
		return err
	}
	if bytes.Equal(a, before) || !bytes.Equal(a, b) {
		return fmt.Errorf("written directly: changed %v; through nbd: changed %v; equal %v", !bytes.Equal(a, before), !bytes.Equal(b, before), bytes.Equal(a, b))
	}
	return nil
}

// devicesAreSharedOut: each user has a device of its own, udev is kept away, and
// who finds none may try later.
func devicesAreSharedOut(ctx context.Context, dir string) (err error) {
	var devices []*nbd.Device
	defer func() {
		for _, d := range devices {
			err = errors.Join(err, d.Detach(), d.Detach())
		}
	}()
	for _, want := range []string{"/dev/nbd0", "/dev/nbd1"} {
		disk := filepath.Join(dir, filepath.Base(want))
		if err := newDisk(ctx, disk); err != nil {
			return err
		}
		d, err := nbd.Attach(ctx, disk, options)
		if err != nil {
			return err
		}
		devices = append(devices, d)
		if d.Path != want {
			return fmt.Errorf("attached to %s, want %s", d.Path, want)
		}
		if err := isLocked(d.Path); err != nil {
			return err
		}
	}
	if _, err := nbd.Attach(ctx, filepath.Join(dir, "nbd0"), options); fault.ClassOf(err) != fault.TryLater {
		return fmt.Errorf("the third: %w", err)
	}
	if err := nbd.Available(ctx); fault.ClassOf(err) != fault.TryLater {
		return fmt.Errorf("available: %w", err)
	}
	if err := nbd.Recover(ctx, lockDir); err != nil {
		return err
	}
	for _, d := range devices { // Recover has not touched them
		if err := hasTable(d.Path); err != nil {
			return err
		}
	}
	return nil
}

// hasTable checks that a device shows a disk with a GPT.
func hasTable(node string) error {
	f, err := os.Open(node)
	if err != nil {
		return err
	}
	defer f.Close()
	signature := make([]byte, 8)
	if _, err := f.ReadAt(signature, 512); err != nil {
		return err
	}
	if string(signature) != "EFI PART" {
		return fmt.Errorf("%s has %q for a partition table", node, signature)
	}
	return nil
}

// isLocked checks for the lock that udev respects.
func isLocked(node string) error {
	f, err := os.Open(node)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("locking %s: %w", node, err)
	}
	return nil
}

// cancelled: a context that ends, however soon, leaves nothing attached, and
// Detach works after its end.
func cancelled(ctx context.Context, dir string) error {
	disk := filepath.Join(dir, "disk.raw")
	if err := newDisk(ctx, disk); err != nil {
		return err
	}
	for _, limit := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Minute} {
		limited, cancel := context.WithTimeout(ctx, limit)
		d, err := nbd.Attach(limited, disk, options)
		cancel()
		switch {
		case err == nil:
			err = d.Detach()
		case errors.Is(err, context.DeadlineExceeded) && limit < time.Minute:
			err = nil
		}
		if err := errors.Join(err, nothingLeft()); err != nil {
			return fmt.Errorf("within %v: %w", limit, err)
		}
	}
	return nil
}

// imageDiskFull: what does not fit on the disk that holds the image is an error
// of Detach at the latest.
func imageDiskFull(ctx context.Context, dir string) (err error) {
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=2m"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(small, 0)) }()
	disk := filepath.Join(small, "disk.raw")
	if err := newDisk(ctx, disk); err != nil {
		return err
	}
	d, err := nbd.Attach(ctx, disk, options)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.Path, bytes.Repeat([]byte("data"), 1<<20), 0); err != nil { // the page cache takes it
		return errors.Join(err, d.Detach())
	}
	if err := d.Detach(); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}
