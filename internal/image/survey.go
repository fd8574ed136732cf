package image

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// chunkSize is the unit of reading and compressing. The cuts are at the same
// places whatever the number of workers, so the packed file is the same too.
const chunkSize = mib

// span is a part of the disk, [start, end).
type span struct{ start, end int64 }

// survey is what is to be packed of a disk.
type survey struct {
	chunks []span // whole chunks that hold data, joined where they touch
	data   int64  // bytes of written data
	end    int64  // the packed disk ends here
}

// surveyDisk finds the written data of a disk and where it ends: after the last
// of it, rounded up to a chunk. A backup partition table at the very end does
// not count, or every disk would be packed to its end: the deployment writes
// each byte of the image to each host, and puts a backup table at the end of
// the host's own disk.
func surveyDisk(f *os.File, size int64) (*survey, error) {
	limit := size
	if t, err := ReadTable(f, size); err == nil && (t.AlternateLBA+1)*sectorSize == size && t.backupStart() > t.LastUsable*sectorSize {
		limit = t.backupStart()
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return nil, fmt.Errorf("cannot read the disk: %w", err)
	}
	s := &survey{}
	err := walkData(seekerOf(f), 0, limit, func(start, end int64) error {
		if end == limit && limit < size && end-start < int64(stat.Blksize) { //nolint:unconvert // it is an int32 elsewhere
			// The backup table need not begin with a block of the file system. What
			// is before it in that block was not written unless it holds something.
			if empty, err := isZero(f, start, end); err != nil || empty {
				return err
			}
		}
		s.add(start, end)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.end = min(size, roundUpChunk(s.end))
	return s, nil
}

func (s *survey) add(start, end int64) {
	s.data += end - start
	s.end = end
	first, last := start/chunkSize*chunkSize, roundUpChunk(end)
	if n := len(s.chunks); n > 0 && s.chunks[n-1].end >= first {
		s.chunks[n-1].end = last
		return
	}
	s.chunks = append(s.chunks, span{first, last})
}

func roundUpChunk(n int64) int64 { return (n + chunkSize - 1) / chunkSize * chunkSize }

func isZero(r io.ReaderAt, start, end int64) (bool, error) {
	b := make([]byte, end-start)
	if _, err := r.ReadAt(b, start); err != nil {
		return false, fmt.Errorf("cannot read the disk: %w", err)
	}
	return len(bytes.TrimLeft(b, "\x00")) == 0, nil
}
