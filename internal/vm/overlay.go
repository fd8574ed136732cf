package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

// overlayData is the file through which data gets into an overlay.
const overlayData = "overlay.data"

// createOverlay makes a qcow2 file over base, which is only read, and puts
// writes into it. size is the virtual size; 0 keeps the one of base. An
// existing file is replaced by a new one: a QEMU that was killed a moment ago
// may still have the old one locked.
func createOverlay(ctx context.Context, path, base string, size int64, writes []Write) (err error) {
	defer func() {
		if err != nil {
			os.Remove(path)
			err = diskFull(fmt.Errorf("cannot make an overlay over %s: %w", base, err))
		}
	}()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// An absolute path holds no protocol prefix like "nbd:".
	args := []string{"create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path}
	if size > 0 {
		args = append(args, strconv.FormatInt(size, 10))
	}
	if _, err := command.Output(ctx, "qemu-img", args...); err != nil {
		return err
	}
	for _, w := range writes {
		if err := writeOverlay(ctx, path, w); err != nil {
			return err
		}
	}
	return nil
}

// writeOverlay lets qemu-io copy w from a file beside the overlay. qemu-io
// splits its command at blanks and knows no quoting, so it runs in that
// directory and the file has a plain name.
func writeOverlay(ctx context.Context, path string, w Write) error {
	dir := filepath.Dir(path)
	data := filepath.Join(dir, overlayData)
	if err := os.WriteFile(data, w.Data, 0o600); err != nil {
		return err
	}
	defer os.Remove(data)
	var said strings.Builder // qemu-io reports failed writes on its standard output
	p, err := command.Start(ctx, command.Cmd{
		Name:   "qemu-io",
		Args:   []string{"-f", "qcow2", "-c", fmt.Sprintf("write -q -s %s %d %d", overlayData, w.Offset, len(w.Data)), path},
		Dir:    dir,
		Stdout: &said,
	})
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// diskFull classes the error of a program that ran out of space.
func diskFull(err error) error {
	if strings.Contains(err.Error(), "No space left on device") {
		return fault.As(fault.CannotWrite, err)
	}
	return err
}

// createDisk makes an empty sparse disk.
func createDisk(path string, size int64) (err error) {
	defer func() {
		if err != nil {
			os.Remove(path)
			err = fmt.Errorf("cannot create the disk: %w", err)
		}
	}()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
