package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"
)

// unpacked is what one pass over a packed file tells.
type unpacked struct {
	sha256  string // of the file
	crc     uint32 // of the disk
	index   *index
	trailer [8]byte // the checksum and size that the file itself gives
}

// errOther means that a file was not made by Pack, or is damaged: unpackMember
// can tell.
var errOther = errors.New("not a sequence of segments")

// maxSegment is the largest segment that Pack makes: 1 MiB that cannot be
// compressed, in stored blocks, or a run of maxZeroRun zeros.
const maxSegment = chunkSize + 64*kib

// maxMarks bounds what is remembered, per chunk: Pack makes a few segments of
// one, at most a run of zeros and some data in turns.
const maxMarks = 2*chunkSize/minZeroRun + 2

// unpackSegments unpacks a file that Pack made, on all cores.
//
// The file is cut where boundary stands, and each piece unpacked as if there
// was nothing before it. This is sound whatever the file holds: if every piece
// unpacks from its first bit to exactly its last, at the end of a block and
// without looking back, then unpacking them one after the other is what any
// gzip would do, wherever the cuts are. A cut in the wrong place (the pattern
// may occur inside a block) fails and leads to errOther.
func unpackSegments(ctx context.Context, f io.ReaderAt, size int64, progress func(done, total int64)) (*unpacked, error) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()

	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	work := make(chan *segment)
	ordered := make(chan *segment, workers+2)
	cut := &cutter{f: f, size: size, sum: sha256.New()}
	cut.free.New = func() any { return new(segment) }
	var cutErr error // belongs to the cutter until ordered is closed
	group.Go(func() {
		defer close(ordered)
		defer close(work)
		cutErr = cut.run(func(s *segment) bool { return send(ctx, ordered, s) && send(ctx, work, s) })
	})
	for range workers {
		group.Go(func() {
			out := make([]byte, chunkSize+1)
			for s := range work {
				s.unpack(out)
				close(s.done)
			}
		})
	}

	u := &unpacked{index: &index{f: f}}
	for s := range ordered {
		if err := wait(ctx, s.done); err != nil {
			return nil, err
		}
		if !s.ok || len(u.index.marks) > maxMarks+int(u.index.size/chunkSize)*maxMarks {
			return nil, errOther
		}
		u.index.marks = append(u.index.marks, mark{raw: u.index.size, packed: s.offset, zeros: s.zeros})
		if s.zeros {
			u.crc = crcZeros(u.crc, s.size)
		} else {
			u.crc = crcJoin(u.crc, s.crc, s.size)
		}
		u.index.size += s.size
		if progress != nil {
			progress(s.offset, size)
		}
		cut.free.Put(s)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cutErr != nil {
		return nil, cutErr
	}
	if progress != nil {
		progress(size, size)
	}
	u.trailer = cut.trailer
	u.sha256 = hex.EncodeToString(cut.sum.Sum(nil))
	return u, nil
}

// segment is a piece of a packed file, with its boundary.
type segment struct {
	offset int64 // in the file
	data   []byte
	done   chan struct{} // closed when the rest is set

	ok    bool
	zeros bool
	size  int64 // unpacked
	crc   uint32
}

// unpack uses out, of chunkSize+1 bytes, to hold what the segment unpacks to.
func (s *segment) unpack(out []byte) {
	if s.size, s.zeros = zeroRunLength(s.data); s.zeros {
		s.ok = s.size > 0
		return
	}
	in := bytes.NewReader(append(s.data, finalBlock...))
	left := -1 // bytes of in after the last block that is not final, if that ended between bytes
	r := flate.NewReaderOpts(in, flate.WithEobCallback(func(c flate.InflateCheckpoint) {
		if c.Final {
			return
		}
		if left = in.Len(); c.BitOffset != 0 {
			left = -1
		}
	}))
	n, err := 0, error(nil)
	for n < len(out) && err == nil {
		var m int
		m, err = r.Read(out[n:])
		n += m
	}
	// The segment is whole if it was followed by the final block and nothing but
	// that. The inflater may have up to three bytes that it has read and not used,
	// but they cannot be the boundary's last ones: those do not start a final
	// block. (Version 1.20.3 tells a wrong CompressedOffset after stored blocks.)
	s.ok = errors.Is(err, io.EOF) && in.Len() == 0 && left == len(finalBlock) && n > 0 && n <= chunkSize
	s.size = int64(n)
	s.crc = crc32.ChecksumIEEE(out[:n])
}

// cutter reads a packed file, checksums it and cuts it into segments.
type cutter struct {
	f       io.ReaderAt
	size    int64
	sum     hash.Hash
	free    sync.Pool // of *segment
	trailer [8]byte

	buf  []byte // read but not cut off yet, in room
	room []byte
	next int64 // offset in the file of what follows buf
}

// run calls emit for every segment until it returns false.
func (c *cutter) run(emit func(*segment) bool) error {
	c.room = make([]byte, 2*maxSegment)
	if err := c.fill(); err != nil {
		return err
	}
	if !bytes.HasPrefix(c.buf, gzipHead) {
		return errOther
	}
	c.buf = c.buf[len(gzipHead):]
	for searched := 0; ; {
		if i := bytes.Index(c.buf[searched:], boundary); i >= 0 {
			end := searched + i + len(boundary)
			s := c.free.Get().(*segment)
			*s = segment{offset: c.next - int64(len(c.buf)), data: append(s.data[:0], c.buf[:end]...), done: make(chan struct{})}
			if !emit(s) {
				return nil
			}
			c.buf, searched = c.buf[end:], 0
			continue
		}
		if c.next == c.size {
			break
		}
		if len(c.buf) >= maxSegment {
			return errOther
		}
		searched = max(0, len(c.buf)-len(boundary)+1)
		if err := c.fill(); err != nil {
			return err
		}
	}
	tail, ok := bytes.CutPrefix(c.buf, finalBlock)
	if !ok || len(tail) != len(c.trailer) {
		return errOther
	}
	copy(c.trailer[:], tail)
	return nil
}

// fill moves what is left to the front and reads on until the room is full or
// the file ends.
func (c *cutter) fill() error {
	have := copy(c.room, c.buf)
	n := int(min(int64(len(c.room)-have), c.size-c.next))
	c.buf = c.room[:have+n]
	if _, err := c.f.ReadAt(c.buf[have:], c.next); err != nil {
		if errors.Is(err, io.EOF) {
			return errShrunk
		}
		return err
	}
	c.next += int64(n)
	c.sum.Write(c.buf[have:])
	return nil
}
