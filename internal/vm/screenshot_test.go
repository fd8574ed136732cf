package vm

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// The picture is taken beside the connection that follows the installation, and
// from a directory whose path is longer than a socket's may be.
func TestScreenshot(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := newSpec(t, newGuest().print(bootLine).hang())
	s.Dir = filepath.Join(filepath.Dir(s.Dir), strings.Repeat("x", 120))
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	running := make(chan struct{}, 1)
	s.Progress = func(p Progress) {
		if p.LastLine != "" {
			select {
			case running <- struct{}{}:
			default:
			}
		}
	}
	done := make(chan error, 1)
	go func() { done <- Install(ctx, s) }()
	select {
	case <-running:
	case err := <-done:
		t.Fatalf("the installation ended: %v", err)
	}
	for range 2 {
		b, err := Screenshot(ctx, s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		screen, err := png.Decode(bytes.NewReader(b))
		if err != nil || screen.Bounds().Dx() < 320 {
			t.Errorf("no picture: %v", err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the installation ended with %v", err)
	}
	checkFiles(t, s, "console.log")
}

func TestScreenshotFailures(t *testing.T) {
	t.Parallel()
	listen := func(t *testing.T) (string, net.Listener) {
		dir := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(dir, monitorName))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return dir, l
	}
	wantClass := func(t *testing.T, dir string, class fault.Class) {
		t.Helper()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, fault.New(fault.TryLater, "QEMU does not answer"))
		defer cancel()
		if b, err := Screenshot(ctx, dir); fault.ClassOf(err) != class {
			t.Errorf("got %d bytes and %v, want class %d", len(b), err, class)
		}
	}
	t.Run("no machine", func(t *testing.T) { wantClass(t, t.TempDir(), fault.TryLater) })
	t.Run("no directory", func(t *testing.T) { wantClass(t, filepath.Join(t.TempDir(), "gone"), fault.TryLater) })
	t.Run("left behind", func(t *testing.T) {
		dir, l := listen(t)
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
		wantClass(t, dir, fault.TryLater)
	})
	t.Run("silent", func(t *testing.T) {
		dir, _ := listen(t)
		wantClass(t, dir, fault.TryLater)
	})
	t.Run("link instead of a picture", func(t *testing.T) {
		dir := t.TempDir()
		secret, path := filepath.Join(dir, "secret"), filepath.Join(dir, "screen.png")
		if err := errors.Join(os.WriteFile(secret, pngSignature, 0o600), os.Symlink(secret, path)); err != nil {
			t.Fatal(err)
		}
		if b, err := readPNG(path); err == nil {
			t.Errorf("read %q", b)
		}
		if b, err := readPNG(secret); err != nil || !bytes.Equal(b, pngSignature) {
			t.Errorf("got %q, %v", b, err)
		}
		if b, err := readPNG(dir); err == nil {
			t.Errorf("read %q", b)
		}
	})
}
