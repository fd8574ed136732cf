package image

import (
	"bytes"
	"compress/flate"
	"io"
	"testing"
)

// countZeros unpacks a deflate stream with the standard library, which must
// yield zeros only, and returns their number.
func countZeros(t *testing.T, stream []byte) int64 {
	t.Helper()
	r := flate.NewReader(bytes.NewReader(stream))
	var total int64
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if len(bytes.TrimLeft(buf[:n], "\x00")) != 0 {
			t.Fatalf("something but zeros at %d", total)
		}
		total += int64(n)
		if err == io.EOF {
			return total
		}
		if err != nil {
			t.Fatalf("after %d zeros: %v", total, err)
		}
	}
}

// TestZeroRunLengths checks each length up to 2000 and those around multiples
// of a match's length, which end at every bit that a run can end at.
func TestZeroRunLengths(t *testing.T) {
	var lengths []int64
	for n := int64(1); n <= 2000; n++ {
		lengths = append(lengths, n)
	}
	for m := int64(8); m < 80; m++ {
		for d := int64(-3); d <= 3; d++ {
			lengths = append(lengths, m*zeroMatchLength+d, m*zeroMatchLength+zeroMatchDistance+d)
		}
	}
	lengths = append(lengths, chunkSize-1, chunkSize, chunkSize+1, 4096, 65536, 9<<20+17)
	ends := map[byte]bool{}
	for _, n := range lengths {
		run := appendZeroRun(nil, n)
		if !bytes.HasSuffix(run, boundary) {
			t.Fatalf("a run of %d does not end with a boundary", n)
		}
		ends[run[len(run)-len(boundary)-1]] = true
		if got := countZeros(t, append(run[:len(run):len(run)], finalBlock...)); got != n {
			t.Fatalf("a run of %d unpacks to %d", n, got)
		}
		if got, ok := zeroRunLength(run); got != n || !ok {
			t.Fatalf("zeroRunLength of a run of %d = %d, %v", n, got, ok)
		}
	}
	if len(ends) < 4 {
		t.Errorf("the runs end in %d ways, want one per phase", len(ends))
	}
}

// TestZeroRunsFollowEachOther: a run refers to nothing before it.
func TestZeroRunsFollowEachOther(t *testing.T) {
	var stream []byte
	var want int64
	for n := int64(1); n < 3000; n += 7 {
		stream = appendZeroRun(stream, n)
		want += n
	}
	if got := countZeros(t, append(stream, finalBlock...)); got != want {
		t.Errorf("unpacked to %d zeros, want %d", got, want)
	}
}

func TestLongestZeroRun(t *testing.T) {
	run := appendZeroRun(nil, maxZeroRun)
	if len(run) > maxSegment {
		t.Errorf("a run of %d takes %d bytes, more than a segment's %d", maxZeroRun, len(run), maxSegment)
	}
	if n, ok := zeroRunLength(run); n != maxZeroRun || !ok {
		t.Errorf("zeroRunLength = %d, %v", n, ok)
	}
}

func TestZeroRunLengthRefuses(t *testing.T) {
	run := appendZeroRun(nil, 70000)
	early := append(bytes.Clone(zeroRunHead[:]), zeroMatches, zeroEnd, 0)
	for name, segment := range map[string][]byte{
		"empty":                    {},
		"cut short":                run[:len(run)-1],
		"more follows":             append(bytes.Clone(run), 0),
		"another head":             append([]byte{0xed}, run[1:]...),
		"match before any literal": append(early, boundary...),
		"match at distance 1":      append(append(bytes.Clone(zeroRunHead[:]), zeroLiteral|zeroEnd<<4), boundary...),
		"padding is not zero":      append(append(bytes.Clone(zeroRunHead[:]), zeroLiteral|zeroEnd<<2|0x80), boundary...),
	} {
		if n, ok := zeroRunLength(segment); ok {
			t.Errorf("%s: taken for a run of %d", name, n)
		}
	}
}

// FuzzZeroRunLength: what is taken for a run of zeros unpacks to that run.
func FuzzZeroRunLength(f *testing.F) {
	for _, n := range []int64{1, 2, 3, 4, 5, 261, 262, 263, 1030, 1031, 1032, 5000} {
		f.Add(appendZeroRun(nil, n)[len(zeroRunHead):])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		segment := append(bytes.Clone(zeroRunHead[:]), body...)
		if n, ok := zeroRunLength(segment); ok {
			if got := countZeros(t, append(segment, finalBlock...)); got != n {
				t.Errorf("taken for %d zeros, unpacks to %d", n, got)
			}
		}
	})
}
