package image

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestCRCJoin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		b := make([]byte, rng.IntN(5000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		cut := rng.IntN(len(b) + 1)
		got := crcJoin(crc32.ChecksumIEEE(b[:cut]), crc32.ChecksumIEEE(b[cut:]), int64(len(b)-cut))
		if want := crc32.ChecksumIEEE(b); got != want {
			t.Fatalf("crcJoin of %d and %d bytes = %08x, want %08x", cut, len(b)-cut, got, want)
		}
	}
}

func TestCRCZeros(t *testing.T) {
	start := crc32.ChecksumIEEE([]byte("esxid"))
	zeros := make([]byte, 1<<20)
	for n := range 600 {
		if got, want := crcZeros(start, int64(n)), crc32.Update(start, crc32.IEEETable, zeros[:n]); got != want {
			t.Fatalf("crcZeros(%d) = %08x, want %08x", n, got, want)
		}
	}
	// Steps that cross 2^32 bytes add up to one step.
	crc, total := start, int64(0)
	for _, n := range []int64{1, 1 << 20, 1<<32 - 1, 3<<33 + 5} {
		crc, total = crcZeros(crc, n), total+n
		if want := crcZeros(start, total); crc != want {
			t.Errorf("crcZeros in steps to %d = %08x, at once %08x", total, crc, want)
		}
	}
}
