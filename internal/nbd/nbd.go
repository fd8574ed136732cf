// Package nbd shows a raw disk image as a block device: it attaches the file
// with qemu-nbd to the kernel's network block device driver, and takes everything
// back, also what a killed esxid left behind.
//
// Three parties may want the same /dev/nbdN, and each is told in its own way:
//
//   - another esxid: by a lock on a record file, one per device, in a directory
//     that all of them share. The kernel drops the lock when its owner dies,
//     however it dies, so a record without a lock is a leftover (see Recover);
//   - any other program: by the kernel, which lets one of two programs set up a
//     free device and refuses the other; the next device is tried then;
//   - udev: by a BSD lock on the device's node, held while it is attached
//     (https://systemd.io/BLOCK_DEVICE_LOCKING). Without it udev rereads the
//     partition table and probes what the partitions hold, when the device appears
//     and whenever somebody closes it after writing, and its rules may have others
//     (LVM, udisks) open what was found there. They all would read as root what an
//     installer wrote, and keep the device in use when it is to be detached.
//
// Only the device as a whole is used, at an offset. The nodes of its partitions
// appear some time after it, if at all, and belong to root while udev is away.
//
// sysfs tells of no change of the files read here, so they are polled while
// something is awaited, each time with a limit.
package nbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

const sectorSize = 512

// Options say how to attach.
type Options struct {
	// LockDir holds the records of attached devices. Every esxid on the host
	// must use the same one. It is made if it is missing.
	LockDir string
}

// Device is an attached disk. Who opens its node must close it before Detach, which
// writes to the image what the kernel still holds.
type Device struct {
	Path string // "/dev/nbd0"

	host   host
	name   string // "nbd0"
	image  string // its path
	claim  *claim
	server *command.Process   // qemu-nbd; nil if it could not be started
	end    context.CancelFunc // ends the server
	node   *os.File           // open and locked while attached
}

// Attach connects the raw image disk with a free device. The image is opened
// once, without following a link, and must be a regular file. If all devices are
// in use the error is of class fault.TryLater. The device stays attached when
// ctx ends; the caller must call Detach.
func Attach(ctx context.Context, disk string, o Options) (*Device, error) {
	return thisHost().attach(ctx, disk, o)
}

// AttachFile is Attach for an image that the caller has opened for reading and
// writing, and may close afterwards.
func AttachFile(ctx context.Context, image *os.File, o Options) (*Device, error) {
	return thisHost().attachFile(ctx, image, o)
}

func (h host) attach(ctx context.Context, disk string, o Options) (*Device, error) {
	image, err := openImage(disk)
	if err != nil {
		return nil, fmt.Errorf("cannot attach the disk: %w", err)
	}
	defer image.Close()
	return h.attachFile(ctx, image, o)
}

func (h host) attachFile(ctx context.Context, image *os.File, o Options) (*Device, error) {
	size, err := imageSize(image)
	if err != nil {
		return nil, fmt.Errorf("cannot attach the disk: %w", err)
	}
	lockDir, err := makeLockDir(o.LockDir)
	if err != nil {
		return nil, fmt.Errorf("cannot attach %s: %w", image.Name(), err)
	}
	names, err := h.devices()
	if err != nil {
		return nil, fmt.Errorf("cannot attach %s: %w", image.Name(), err)
	}
	for _, name := range names {
		d, err := h.attachTo(ctx, name, image, size, lockDir)
		switch {
		case err == nil:
			return d, nil
		case !errors.Is(err, errInUse):
			return nil, fmt.Errorf("cannot attach %s to %s: %w", image.Name(), h.node(name), err)
		}
	}
	return nil, fault.New(fault.TryLater, "cannot attach %s: %w", image.Name(), allInUse(len(names)))
}

func makeLockDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o750)
}

// errInUse means that somebody else has the device.
var errInUse = errors.New("the device is in use")

// attachTo attaches the image to one device, or returns errInUse.
func (h host) attachTo(ctx context.Context, name string, image *os.File, size int64, lockDir string) (*Device, error) {
	if !h.free(name) {
		return nil, errInUse // and its record, if there is one, is not touched
	}
	c, err := claimDevice(lockDir, name)
	if err != nil {
		return nil, err
	}
	if !h.free(name) {
		c.close()
		return nil, errInUse
	}
	d := &Device{Path: h.node(name), host: h, name: name, image: image.Name(), claim: c}
	if err := d.connect(ctx, image, size); err != nil {
		return nil, then(err, d.release())
	}
	return d, nil
}

// openImage opens the image without following a link and without waiting for
// the other end of a FIFO.
func openImage(path string) (*os.File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// imageSize returns the size of what must be a disk image.
func imageSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 || info.Size()%sectorSize != 0 {
		return 0, fault.New(fault.Input, "%s is not a disk image: not a regular file of whole sectors", f.Name())
	}
	return info.Size(), nil
}

// identity are the arguments of qemu-nbd by which a leftover server is known.
// They must not change between versions.
func identity(node, disk string) []string {
	return []string{"--connect=" + node, "--description=esxid " + disk}
}

// serverArgs are qemu-nbd's arguments. The image itself arrives open as file
// descriptor 3.
//
// --verbose keeps qemu-nbd in the foreground. Its socket, of which the kernel
// gets the other end, would be in /var/lock. Without discard and zero detection,
// zeros that are written stay data in the file.
func serverArgs(node, disk, socket string) []string {
	return append(identity(node, disk), "--verbose", "--socket="+socket,
		"--format=raw", "--discard=ignore", "--detect-zeroes=off", "--cache=writeback", "/proc/self/fd/3")
}

// connect starts qemu-nbd and waits until the kernel serves the device.
func (d *Device) connect(ctx context.Context, image *os.File, size int64) error {
	if err := d.claim.write(record{Disk: d.image, PID: os.Getpid()}); err != nil {
		return err
	}
	if err := d.lockNode(ctx); err != nil {
		return err
	}
	// Not ctx itself: Detach has to flush before the server may go.
	serverCtx, end := context.WithCancel(context.WithoutCancel(ctx))
	d.end = end
	server, err := command.Start(serverCtx, command.Cmd{
		Name: "qemu-nbd", Args: serverArgs(d.Path, d.image, d.claim.socket()),
		ExtraFiles: []*os.File{image},
	})
	if err != nil {
		return err
	}
	d.server = server
	err = poll(ctx, d.host.limits.connect, server.Done(), func() bool {
		return d.host.isThread(d.host.server(d.name), server.Pid()) && d.host.sectors(d.name) == size/sectorSize
	})
	if errors.Is(err, errGone) {
		return d.refused()
	}
	if err != nil {
		// There may be nothing yet to disconnect, and SIGTERM during the
		// handshake is not answered. No data is at stake.
		d.server.Kill()
		return fmt.Errorf("qemu-nbd does not connect it: %w", err)
	}
	return nil
}

// refused says why qemu-nbd ended at once. It has no connection to undo.
func (d *Device) refused() error {
	err := d.server.Wait()
	d.server = nil
	if err == nil {
		err = errors.New("qemu-nbd ended at once")
	}
	if !d.host.free(d.name) {
		return fmt.Errorf("%w: %w", errInUse, err)
	}
	return err
}

// lockNode opens the device and takes the lock that keeps udev away. Whoever
// has it (udev, for a moment) may end with it.
func (d *Device) lockNode(ctx context.Context) error {
	f, err := d.host.openNode(ctx, d.name, os.O_RDONLY)
	if err != nil {
		return err
	}
	d.node = f
	var lockErr error
	err = poll(ctx, d.host.limits.connect, nil, func() bool {
		lockErr = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		return !errors.Is(lockErr, unix.EWOULDBLOCK)
	})
	if err != nil {
		return fmt.Errorf("cannot lock the device, which another program may have locked: %w", err)
	}
	return lockErr
}
