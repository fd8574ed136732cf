package vm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// monitorName is the socket of QEMU's second monitor, in Spec.Dir. QEMU runs in that
// directory and we go there by descriptor, so the limit of 108 bytes for
// the path of a socket does not matter.
const monitorName = "monitor.sock"

const (
	screenshotLimit = 10 * time.Second
	// maxScreenshot bounds a picture's size in bytes: no text or VGA mode has more,
	// even uncompressed.
	maxScreenshot = 16 << 20
)

var pngSignature = []byte("\x89PNG\r\n\x1a\n")

// Screenshot returns the screen of the virtual machine that installs in dir, which is
// the Dir of a Spec, as PNG. The machine may belong to another process. If none
// runs there the error's class is fault.TryLater.
func Screenshot(ctx context.Context, dir string) (png []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot take a picture of the screen: %w", err)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, screenshotLimit, fault.New(fault.TryLater, "QEMU does not answer"))
	defer cancel()
	conn, err := dialIn(ctx, dir, monitorName)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fault.New(fault.TryLater, "no virtual machine runs in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	q, err := newQMP(ctx, conn)
	if err != nil {
		return nil, err
	}
	defer q.close()
	path := filepath.Join(dir, "screen-"+rand.Text()+".png")
	defer os.Remove(path)
	if err := q.execute(ctx, "screendump", map[string]string{"filename": path, "format": "png"}, nil); err != nil {
		return nil, err
	}
	return readPNG(path)
}

// dialIn connects to a socket in a directory, however long its path is.
func dialIn(ctx context.Context, dir, name string) (net.Conn, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name))
}

// readPNG reads a picture that QEMU, which a guest may have taken over, has written.
func readPNG(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("what QEMU made is not a file")
	}
	png, err := io.ReadAll(io.LimitReader(f, maxScreenshot+1))
	switch {
	case err != nil:
		return nil, err
	case len(png) > maxScreenshot || !bytes.HasPrefix(png, pngSignature):
		return nil, errors.New("what QEMU made is not a picture")
	}
	return png, nil
}
