package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/esxid/esxid/internal/fault"
	"golang.org/x/sys/unix"
)

// SaveRegion copies length bytes of a disk, from first on, into the empty file
// out and syncs it. Holes stay holes, so a mostly empty partition takes little
// room and little time. It keeps the state before an edit, for RestoreRegion.
//
// Files and not paths, because the caller may have more rights than whoever owns
// the directory they are in.
func SaveRegion(ctx context.Context, disk *os.File, first, length int64, out *os.File) error {
	info, err := disk.Stat()
	if err != nil {
		return fmt.Errorf("cannot save a part of the disk: %w", err)
	}
	if first < 0 || length < 0 || first > info.Size()-length {
		return fault.New(fault.Input, "cannot save %d bytes from %d of %s: it has %d", length, first, disk.Name(), info.Size())
	}
	if err := out.Truncate(length); err != nil {
		return fmt.Errorf("cannot write %s: %w", out.Name(), err)
	}
	if err := copyData(ctx, disk, first, length, out, 0); err != nil {
		return fmt.Errorf("cannot save a part of %s: %w", disk.Name(), err)
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("cannot write %s: %w", out.Name(), err)
	}
	return nil
}

// RestoreRegion puts what SaveRegion saved back to offset first of a disk. Where
// there was a hole there is one again.
func RestoreRegion(ctx context.Context, saved, disk *os.File, first int64) error {
	info, err := saved.Stat()
	if err != nil {
		return fmt.Errorf("cannot restore a part of the disk: %w", err)
	}
	diskInfo, err := disk.Stat()
	if err != nil {
		return fmt.Errorf("cannot restore a part of the disk: %w", err)
	}
	if first < 0 || first > diskInfo.Size()-info.Size() {
		return fault.New(fault.Input, "cannot restore %d bytes at %d of %s: it has %d", info.Size(), first, disk.Name(), diskInfo.Size())
	}
	if err := punch(disk, first, info.Size()); err != nil {
		return fmt.Errorf("cannot restore a part of %s: %w", disk.Name(), err)
	}
	if err := copyData(ctx, saved, 0, info.Size(), disk, first); err != nil {
		return fmt.Errorf("cannot restore a part of %s: %w", disk.Name(), err)
	}
	if err := disk.Sync(); err != nil {
		return fmt.Errorf("cannot restore a part of the disk: %w", err)
	}
	return nil
}

// copyData copies the data, and not the holes, of a part of a file.
func copyData(ctx context.Context, from *os.File, first, length int64, to *os.File, at int64) error {
	buf := make([]byte, mib)
	return walkData(seekerOf(from), first, first+length, func(start, end int64) error {
		for start < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(int64(len(buf)), end-start)]
			if _, err := from.ReadAt(b, start); err != nil {
				if errors.Is(err, io.EOF) {
					err = errShrunk
				}
				return err
			}
			if _, err := to.WriteAt(b, at+start-first); err != nil {
				return err
			}
			start += int64(len(b))
		}
		return nil
	})
}

// punch makes a part of a file a hole, or at least zero.
func punch(f *os.File, first, length int64) error {
	if length == 0 {
		return nil
	}
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, first, length)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeros := make([]byte, mib)
	for end := first + length; first < end; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-first)], first)
		if err != nil {
			return err
		}
		first += int64(n)
	}
	return nil
}
