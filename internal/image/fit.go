package image

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// fitted returns the beginning of a disk, MBR and GPT header, as it would be had
// the disk ended as soon as its partitions allow: with a backup table right
// behind the last of them. The kernel refuses a primary table that speaks of
// sectors the disk does not have, and with it an image on every disk that is
// smaller than the one it was made on. Only the header's two ends, its checksum
// and the protective record's length differ. A disk without a table stays as it
// is.
func fitted(r io.ReaderAt, size int64) ([]byte, error) {
	t, err := ReadTable(r, size)
	if err != nil || len(t.Partitions) == 0 {
		return nil, nil //nolint:nilerr // what is not a GPT disk cannot be fitted
	}
	head := make([]byte, 2*sectorSize)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("cannot read the partition table: %w", err)
	}
	last := int64(0)
	for _, p := range t.Partitions {
		last = max(last, p.Last)
	}
	alternate := last + t.entrySectors + 1
	if alternate >= t.AlternateLBA {
		return nil, nil
	}
	le := binary.LittleEndian
	for i := 446; i < 510; i += 16 {
		// The length of the whole disk but for the first sector (UEFI 2.10, table 5-4).
		if record := head[i : i+16]; record[4] == 0xee && int64(le.Uint32(record[12:])) == t.AlternateLBA {
			le.PutUint32(record[12:], uint32(alternate))
		}
	}
	h := head[sectorSize:]
	le.PutUint64(h[32:], uint64(alternate))
	le.PutUint64(h[48:], uint64(last))
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:le.Uint32(h[12:])]))
	return head, nil
}

// overlay reads a disk with another beginning.
type overlay struct {
	io.ReaderAt
	head []byte
}

func (o overlay) ReadAt(b []byte, off int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(b, off)
	if off < int64(len(o.head)) {
		copy(b[:n], o.head[off:])
	}
	return n, err
}
