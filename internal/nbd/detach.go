package nbd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

// Detach writes everything to the image, disconnects the device and waits until
// it is free for others. It does all of this whatever the state, has its own
// limits of time, and may be called again. An error about flushing means that
// the image lacks data; one about the device that it is still in use, and its
// record is left for Recover.
func (d *Device) Detach() error {
	if d.claim == nil {
		return nil
	}
	err := d.flush()
	return then(err, d.release())
}

// release undoes Attach.
func (d *Device) release() error {
	if d.node != nil {
		d.node.Close() // the kernel frees no device that is open
		d.node = nil
	}
	err := d.stop()
	if d.end != nil {
		d.end()
	}
	if err == nil {
		err = d.claim.remove()
	} else {
		d.claim.close()
	}
	d.claim = nil
	return err
}

// flush writes what the kernel holds of the device to the image. The node was open
// before anybody wrote, so it reports whatever went wrong since then. A server that
// hangs must not hang Detach: the flush is given up then, and ends with an error
// when the device is disconnected.
func (d *Device) flush() error {
	if isClosed(d.server.Done()) {
		return d.serverEnded()
	}
	done := make(chan error, 1)
	node := d.node
	go func() { done <- node.Sync() }()
	limit := time.NewTimer(d.host.limits.flush)
	defer limit.Stop()
	select {
	case err := <-done:
		// The kernel may have noticed the server's end before we did.
		if err != nil && closesWithin(d.server.Done(), noticed) {
			return d.serverEnded()
		}
		if err != nil {
			return fmt.Errorf("cannot write everything to %s (is its disk full?): %w", d.image, err)
		}
		return nil
	case <-limit.C:
		return fault.New(fault.TryLater, "cannot write everything to %s within %v: its disk does not answer", d.image, d.host.limits.flush)
	}
}

// noticed is how long the end of a server may go unnoticed here that the kernel has
// seen already.
const noticed = time.Second

func (d *Device) serverEnded() error {
	return fmt.Errorf("qemu-nbd ended while %s was in use: %s", d.Path, d.server.Stderr())
}

// stop disconnects the device, upon which the server ends, and waits until both
// are free. If the kernel does not do it, the server is ended, and the kernel
// notices.
func (d *Device) stop() error {
	if d.server == nil {
		return nil
	}
	limit := d.host.limits.disconnect
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ended := d.server.Done()
	if !isClosed(ended) && (d.host.disconnect(ctx, d.name) != nil || !closesWithin(ended, limit)) {
		d.end()
		if !closesWithin(ended, limit) {
			return fault.New(fault.TryLater, "qemu-nbd (process %d) does not end: the disk of %s does not answer", d.server.Pid(), d.image)
		}
	}
	return d.host.awaitFree(context.Background(), d.name)
}

// disconnect makes the kernel end the connection of a device.
func (h host) disconnect(ctx context.Context, name string) error {
	_, err := command.Output(ctx, "qemu-nbd", "--disconnect", h.node(name))
	return err
}

// awaitFree waits until the kernel has let go of a device.
func (h host) awaitFree(ctx context.Context, name string) error {
	err := poll(ctx, h.limits.disconnect, nil, func() bool { return h.free(name) })
	if err != nil {
		return fault.New(fault.TryLater, "%s is still in use (%w): when nothing uses it any more, run: qemu-nbd --disconnect %[1]s", h.node(name), err)
	}
	return nil
}

// then adds the error of cleaning up, if any, to the one before it.
func then(err, cleanup error) error {
	if err == nil || cleanup == nil {
		return errors.Join(err, cleanup)
	}
	return fmt.Errorf("%w; %w", err, cleanup)
}

func isClosed(done <-chan struct{}) bool { return closesWithin(done, 0) }

func closesWithin(done <-chan struct{}, limit time.Duration) bool {
	select {
	case <-done:
		return true
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
