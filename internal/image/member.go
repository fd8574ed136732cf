package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

const (
	// maxRaw is larger than any disk that ESXi is installed on by image. It stops
	// a small file that unpacks for ever.
	maxRaw = 1 << 40

	maxGzipField = 64 * kib // of a header's name or comment
)

// unpackMember unpacks any gzip file, on one core. What is wrong with the file
// is returned as damage; err is for files that cannot be read at all. The
// SHA-256 is right in spite of damage.
func unpackMember(ctx context.Context, f io.ReaderAt, size, limit int64, progress func(done, total int64)) (u *unpacked, damage, err error) {
	in := &summing{ctx: ctx, r: io.NewSectionReader(f, 0, size), sum: sha256.New()}
	r := &counting{Reader: bufio.NewReaderSize(in, 256*kib), in: in}
	u = &unpacked{index: &index{f: f}}
	damage = u.member(ctx, r, limit, func() {
		if progress != nil {
			progress(in.n, size)
		}
	})
	if damage == nil {
		damage = nothingFollows(r)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, nil, err
	}
	if in.err != nil {
		return nil, nil, in.err
	}
	u.sha256 = hex.EncodeToString(in.sum.Sum(nil))
	return u, damage, nil
}

// member reads header, content and trailer.
func (u *unpacked) member(ctx context.Context, r *counting, limit int64, step func()) error {
	if err := skipGzipHead(r); err != nil {
		return fmt.Errorf("its gzip header is damaged: %w", noEOF(err))
	}
	u.index.marks = []mark{{packed: r.count()}}
	inflate := flate.NewReader(r.Reader)
	buf := make([]byte, mib)
	for {
		n, err := inflate.Read(buf)
		u.crc = crc32.Update(u.crc, crc32.IEEETable, buf[:n])
		u.index.size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("it is damaged or cut short, after %d unpacked bytes: %w", u.index.size, noEOF(err))
		}
		if u.index.size > limit {
			return fmt.Errorf("it unpacks to more than %d bytes", limit)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		step()
	}
	if _, err := io.ReadFull(r, u.trailer[:]); err != nil {
		return fmt.Errorf("its last 8 bytes, checksum and size, are missing: %w", noEOF(err))
	}
	return nil
}

// skipGzipHead reads a header (RFC 1952, 2.3).
func skipGzipHead(r *counting) error {
	var head [10]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if head[0] != 0x1f || head[1] != 0x8b {
		return errors.New("this is not a gzip file")
	}
	flags := head[3]
	if head[2] != 8 || flags&0xe0 != 0 {
		return fmt.Errorf("unknown method %d or flags %#x", head[2], flags)
	}
	if flags&0x04 != 0 { // extra field
		var n [2]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return err
		}
		if _, err := r.Discard(int(n[0]) | int(n[1])<<8); err != nil {
			return err
		}
	}
	for _, text := range []byte{0x08, 0x10} { // name, comment
		if flags&text == 0 {
			continue
		}
		for n := 0; ; n++ {
			b, err := r.ReadByte()
			if err != nil {
				return err
			}
			if b == 0 {
				break
			}
			if n == maxGzipField {
				return errors.New("a field is too long")
			}
		}
	}
	if flags&0x02 != 0 { // checksum of the header
		_, err := r.Discard(2)
		return err
	}
	return nil
}

func nothingFollows(r *counting) error {
	next, err := r.Peek(2)
	switch {
	case errors.Is(err, io.EOF) && len(next) == 0:
		return nil
	case len(next) == 2 && next[0] == 0x1f && next[1] == 0x8b:
		return fmt.Errorf("a second gzip member follows at offset %d; some readers stop before it", r.count())
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("something that is not gzip follows at offset %d", r.count())
	}
	return err
}

// noEOF makes an end that comes too soon say so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends too soon")
	}
	return err
}

// summing checksums and counts what is read through it, until its context ends.
type summing struct {
	ctx context.Context // of the call that it serves
	r   io.Reader
	sum hash.Hash
	n   int64
	err error // other than the end of the file
}

func (s *summing) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// counting knows how far a buffered reader has been read.
type counting struct {
	*bufio.Reader
	in *summing
}

func (c *counting) count() int64 { return c.in.n - int64(c.Buffered()) }
