package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/klauspost/compress/flate"
)

// mark is a place where unpacking can start: nothing that follows refers to what
// comes before.
type mark struct {
	raw    int64 // what comes from here is at this offset of the disk
	packed int64 // offset in the file
	zeros  bool  // there are only zeros from here to the next mark
}

// index reads parts of a packed image without unpacking all that is before
// them. It is made on the one pass through the file that checks it. A file that
// Pack did not make has one mark, at its start; that is slower and still right.
type index struct {
	f     io.ReaderAt
	size  int64 // of the disk
	marks []mark
}

// maxSkipped bounds what is unpacked in vain for file systems that send their
// reader to and fro, in sizes of the disk (but a small one may be read a little
// more often).
const maxSkipped = 16

// reader returns the disk. It is for one goroutine, fastest where offsets grow,
// and fails once ctx has ended.
func (x *index) reader(ctx context.Context) io.ReaderAt {
	return &indexReader{ctx: ctx, index: x}
}

type indexReader struct {
	*index
	ctx     context.Context // of the call that this reader serves
	inflate io.Reader
	pos     int64 // of inflate, on the disk
	skipped int64
}

// ReadAt reads from the disk.
func (r *indexReader) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("negative offset")
	}
	for len(p) > 0 {
		if offset >= r.size {
			return n, io.EOF
		}
		i := sort.Search(len(r.marks), func(i int) bool { return r.marks[i].raw > offset }) - 1
		end := r.size
		if i+1 < len(r.marks) {
			end = r.marks[i+1].raw
		}
		part := p[:min(int64(len(p)), end-offset)]
		if r.marks[i].zeros {
			clear(part)
		} else if err := r.readFrom(r.marks[i], part, offset); err != nil {
			return n, err
		}
		n += len(part)
		p, offset = p[len(part):], offset+int64(len(part))
	}
	return n, nil
}

// readFrom unpacks from a mark on, or goes on from where it was if that is
// nearer.
func (r *indexReader) readFrom(m mark, p []byte, offset int64) error {
	if r.inflate == nil || r.pos > offset || r.pos < m.raw {
		r.inflate = flate.NewReader(bufio.NewReaderSize(io.NewSectionReader(r.f, m.packed, 1<<62), 64*kib))
		r.pos = m.raw
	}
	const stride = 16 * mib // to look at the context now and then
	for r.pos < offset {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if r.skipped > maxSkipped*max(r.size, 16*mib) {
			return errors.New("a file system is too scattered")
		}
		n, err := io.CopyN(io.Discard, r.inflate, min(stride, offset-r.pos))
		r.pos += n
		r.skipped += n
		if err != nil {
			r.inflate = nil
			return fmt.Errorf("cannot unpack: %w", err)
		}
	}
	n, err := io.ReadFull(r.inflate, p)
	r.pos += int64(n)
	if err != nil {
		r.inflate = nil
		return fmt.Errorf("cannot unpack: %w", err)
	}
	return r.ctx.Err()
}
