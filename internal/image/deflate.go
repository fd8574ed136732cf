package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"

	"github.com/esxid/esxid/internal/fault"
	"github.com/klauspost/compress/flate"
)

const (
	// zeroUnit is the granularity at which zeros are looked for.
	zeroUnit = 4 * kib
	// minZeroRun is the shortest run inside of a chunk that is taken out of it.
	// After the 32 KiB of deflate's window a compressor knows nothing but zeros
	// any more, so a cut there loses nothing.
	minZeroRun = 64 * kib
)

// maxLevel leaves out level 9, which takes ten times as long for 1 %.
const maxLevel = 8

// chunk is a part of the disk on its way through the workers.
type chunk struct {
	span
	done chan struct{} // closed when the rest is set

	lead   int64         // zeros before the data; all of it if there is no data
	size   int64         // bytes from the first data to the last
	packed *bytes.Buffer // that as segments of the stream
	crc    uint32        // of that
	err    error
}

// deflater is the state of one worker.
type deflater struct {
	w       *flate.Writer
	input   []byte
	buffers *sync.Pool // of *bytes.Buffer, for packed chunks
}

func newDeflater(level int, buffers *sync.Pool) (*deflater, error) {
	switch {
	case level == 0:
		level = defaultLevel
	case level < 1 || level > maxLevel:
		return nil, fault.New(fault.Usage, "the level must be from 1 to %d", maxLevel)
	}
	w, err := flate.NewWriter(io.Discard, level)
	return &deflater{w: w, input: make([]byte, chunkSize), buffers: buffers}, err
}

// run reads a chunk and packs what is between the zeros at its ends.
func (d *deflater) run(f io.ReaderAt, c *chunk) {
	b := d.input[:c.end-c.start]
	if _, err := f.ReadAt(b, c.start); err != nil {
		c.err = err
		if errors.Is(err, io.EOF) {
			c.err = errShrunk
		}
		return
	}
	lead, data := trimZeros(b)
	c.lead, c.size = int64(lead), int64(len(data))
	if len(data) == 0 {
		return
	}
	c.packed = d.buffers.Get().(*bytes.Buffer)
	c.packed.Reset()
	for len(data) > 0 && c.err == nil {
		size, zeros := nextZeroRun(data)
		c.err = d.deflate(c, data[:size])
		if zeros > 0 {
			c.packed.Write(appendZeroRun(c.packed.AvailableBuffer(), int64(zeros)))
			c.crc = crcZeros(c.crc, int64(zeros))
		}
		data = data[size+zeros:]
	}
}

// deflate adds a segment with data to a chunk.
func (d *deflater) deflate(c *chunk, data []byte) error {
	c.crc = crcJoin(c.crc, crc32.ChecksumIEEE(data), int64(len(data)))
	d.w.Reset(c.packed)
	if _, err := d.w.Write(data); err != nil {
		return err
	}
	if err := d.w.Flush(); err != nil {
		return err
	}
	// Flush has written the first of the boundary's two blocks.
	_, err := c.packed.Write(boundary[len(boundary)-5:])
	return err
}

// trimZeros cuts whole units of zeros off both ends of b.
func trimZeros(b []byte) (lead int, data []byte) {
	for lead < len(b) && allZero(b[lead:min(lead+zeroUnit, len(b))]) {
		lead = min(lead+zeroUnit, len(b))
	}
	data = b[lead:]
	for len(data) >= zeroUnit && allZero(data[len(data)-zeroUnit:]) {
		data = data[:len(data)-zeroUnit]
	}
	return lead, data
}

// nextZeroRun returns the place and length of the first long run of zeros in b,
// or the end of b and 0. Runs begin and end at units, counted from the start.
func nextZeroRun(b []byte) (start, length int) {
	for end := zeroUnit; end <= len(b); end += zeroUnit {
		switch {
		case allZero(b[end-zeroUnit : end]):
			length += zeroUnit
		case length >= minZeroRun:
			return end - zeroUnit - length, length
		default:
			length = 0
		}
	}
	if length >= minZeroRun {
		end := len(b) / zeroUnit * zeroUnit
		return end - length, length
	}
	return len(b), 0
}

var emptyUnit [zeroUnit]byte

// allZero looks at one unit at most.
func allZero(b []byte) bool { return bytes.Equal(b, emptyUnit[:len(b)]) }

// gzipHead begins a packed file: no flags, no time, no name, system unknown (RFC
// 1952, 2.3). It is always the same.
var gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// finalBlock ends a deflate stream: an empty block with fixed codes.
var finalBlock = []byte{0x03, 0x00}

// gzipWriter puts segments together to one gzip member.
type gzipWriter struct {
	w    io.Writer
	size int64  // of the disk so far
	crc  uint32 // of the disk so far
	run  []byte // a run of maxZeroRun zeros, once there was one
}

func (g *gzipWriter) begin() error {
	_, err := g.w.Write(gzipHead)
	return err
}

// add writes a chunk, and the zeros between the last one's data and its own.
func (g *gzipWriter) add(c *chunk) error {
	if c.size == 0 {
		return nil
	}
	if err := g.zerosTo(c.start + c.lead); err != nil {
		return err
	}
	g.crc = crcJoin(g.crc, c.crc, c.size)
	g.size += c.size
	_, err := g.w.Write(c.packed.Bytes())
	return err
}

// zerosTo writes zeros up to an offset of the disk.
func (g *gzipWriter) zerosTo(offset int64) error {
	n := offset - g.size
	g.crc = crcZeros(g.crc, n)
	g.size = offset
	for ; n >= maxZeroRun; n -= maxZeroRun {
		if g.run == nil {
			g.run = appendZeroRun(nil, maxZeroRun)
		}
		if _, err := g.w.Write(g.run); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	_, err := g.w.Write(appendZeroRun(nil, n))
	return err
}

// end completes the file for a disk of that size.
func (g *gzipWriter) end(size int64) error {
	if err := g.zerosTo(size); err != nil {
		return err
	}
	tail := append([]byte(nil), finalBlock...)
	tail = binary.LittleEndian.AppendUint32(tail, g.crc)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(g.size)) // modulo 2^32, as the format wants it
	_, err := g.w.Write(tail)
	return err
}
