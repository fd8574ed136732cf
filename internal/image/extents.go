package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seeker is lseek(2) for SEEK_DATA and SEEK_HOLE.
type seeker func(offset int64, whence int) (int64, error)

func seekerOf(f *os.File) seeker {
	return func(offset int64, whence int) (int64, error) {
		return unix.Seek(int(f.Fd()), offset, whence)
	}
}

// walkData calls visit for every extent of data in [from, to), in order. Where
// the file system cannot tell holes from data, all of it is data.
func walkData(seek seeker, from, to int64, visit func(start, end int64) error) error {
	for pos := from; pos < to; {
		start, err := seek(pos, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // only a hole is left
			return nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return visit(pos, to)
		case err != nil:
			return fmt.Errorf("cannot find the data: %w", err)
		case start >= to:
			return nil
		}
		end, err := seek(start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("cannot find the end of the data: %w", err)
		}
		if start < pos || end <= start {
			return fmt.Errorf("cannot find the data: the file system reports an extent from %d to %d after %d", start, end, pos)
		}
		if err := visit(start, min(end, to)); err != nil {
			return err
		}
		pos = end
	}
	return nil
}
