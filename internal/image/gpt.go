package image

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/esxid/esxid/internal/fault"
)

// GUID is a GUID as GPT stores it: the first three fields are little-endian.
type GUID [16]byte

// ParseGUID reads the usual form, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".
func ParseGUID(s string) (GUID, error) {
	var g GUID
	digits := strings.ReplaceAll(s, "-", "")
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(g) || len(s) != 36 {
		return GUID{}, fmt.Errorf("cannot read GUID %q", s)
	}
	copy(g[:], b)
	g.swap()
	if g.String() != strings.ToUpper(s) {
		return GUID{}, fmt.Errorf("cannot read GUID %q", s)
	}
	return g, nil
}

func (g *GUID) swap() {
	slices.Reverse(g[0:4])
	slices.Reverse(g[4:6])
	slices.Reverse(g[6:8])
}

// String returns the usual form, in capitals.
func (g GUID) String() string {
	g.swap()
	return fmt.Sprintf("%X-%X-%X-%X-%X", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// Partition is an entry of a partition table.
type Partition struct {
	Number      int // from 1, as in /dev/sda1
	Type        GUID
	Unique      GUID
	First, Last int64 // LBA, inclusive
	Attributes  uint64
	Name        string
}

// Offset returns where the partition begins.
func (p Partition) Offset() int64 { return p.First * sectorSize }

// Size returns the length of the partition.
func (p Partition) Size() int64 { return (p.Last - p.First + 1) * sectorSize }

// Table is a GUID partition table.
type Table struct {
	Partitions              []Partition // by number
	FirstUsable, LastUsable int64       // LBA, inclusive: where partitions may be
	AlternateLBA            int64       // of the backup header; the last sector of the disk the table was made for
	entrySectors            int64
}

// backupStart returns where the backup table begins: its entries come before
// its header.
func (t *Table) backupStart() int64 { return (t.AlternateLBA - t.entrySectors) * sectorSize }

// Partition returns the partition with a number.
func (t *Table) Partition(number int) (Partition, bool) {
	for _, p := range t.Partitions {
		if p.Number == number {
			return p, true
		}
	}
	return Partition{}, false
}

const (
	gptHeaderSize   = 92 // of revision 1.0
	gptEntrySize    = 128
	gptMaxEntries   = 1024 // tables have 128; Linux takes no more than 256 partitions
	gptMaxEntrySize = 4096
	// maxLBA keeps every offset far from the end of an int64.
	maxLBA = 1 << 50
)

// ReadTable reads the primary partition table of a disk of which the first size
// bytes can be read: protective MBR, header and entries, with both checksums
// (UEFI 2.10, 5.2.3 and 5.3). Linux is as strict and ignores a table that is
// not. Partitions may reach beyond size, as the end of a disk that was never
// written is not part of an image.
func ReadTable(r io.ReaderAt, size int64) (*Table, error) {
	if size < 2*sectorSize {
		return nil, fault.New(fault.Input, "cannot read the partition table: %d bytes are too few for one", size)
	}
	var head [2 * sectorSize]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("cannot read the partition table: %w", err)
	}
	if err := checkMBR(head[:sectorSize]); err != nil {
		return nil, fault.New(fault.Input, "cannot use the partition table: %w", err)
	}
	h, err := parseHeader(head[sectorSize:])
	if err != nil {
		return nil, fault.New(fault.Input, "cannot use the partition table: %w", err)
	}
	if h.entriesLBA*sectorSize+h.entriesBytes() > size {
		return nil, fault.New(fault.Input, "cannot use the partition table: its entries are outside the image")
	}
	entries := make([]byte, h.entriesBytes())
	if _, err := r.ReadAt(entries, h.entriesLBA*sectorSize); err != nil {
		return nil, fmt.Errorf("cannot read the partition table: %w", err)
	}
	t, err := h.table(entries)
	if err != nil {
		return nil, fault.New(fault.Input, "cannot use the partition table: %w", err)
	}
	return t, nil
}

// checkMBR looks for the record that covers the disk and without which Linux
// does not look for a GPT.
func checkMBR(b []byte) error {
	if b[510] != 0x55 || b[511] != 0xaa {
		return fmt.Errorf("the first sector is not a boot record")
	}
	for i := 446; i < 510; i += 16 {
		if b[i+4] == 0xee && binary.LittleEndian.Uint32(b[i+8:]) == 1 {
			return nil
		}
	}
	return fmt.Errorf("the first sector has no protective entry")
}

// gptHeader is what of a header is used after its checks.
type gptHeader struct {
	alternate, firstUsable, lastUsable int64
	entriesLBA                         int64
	count, entrySize                   int64
	entriesCRC                         uint32
}

func (h *gptHeader) entriesBytes() int64 { return h.count * h.entrySize }

func parseHeader(b []byte) (*gptHeader, error) {
	le := binary.LittleEndian
	if string(b[:8]) != "EFI PART" {
		return nil, fmt.Errorf("there is none (no EFI PART in the second sector)")
	}
	if rev := le.Uint32(b[8:]); rev != 0x00010000 {
		return nil, fmt.Errorf("unknown revision %#x", rev)
	}
	size := le.Uint32(b[12:])
	if size < gptHeaderSize || size > sectorSize {
		return nil, fmt.Errorf("bad header size %d", size)
	}
	sum := le.Uint32(b[16:])
	clean := bytes.Clone(b[:size])
	clear(clean[16:20])
	if crc32.ChecksumIEEE(clean) != sum {
		return nil, fmt.Errorf("the checksum of the header is wrong")
	}
	var lba [5]int64 // own, alternate, first and last usable, entries
	for i, off := range []int{24, 32, 40, 48, 72} {
		v := le.Uint64(b[off:])
		if v > maxLBA {
			return nil, fmt.Errorf("sector number %d is too large", v)
		}
		lba[i] = int64(v)
	}
	h := &gptHeader{
		alternate: lba[1], firstUsable: lba[2], lastUsable: lba[3], entriesLBA: lba[4],
		count: int64(le.Uint32(b[80:])), entrySize: int64(le.Uint32(b[84:])), entriesCRC: le.Uint32(b[88:]),
	}
	switch {
	case lba[0] != 1:
		return nil, fmt.Errorf("the header is for sector %d", lba[0])
	case h.count < 1 || h.count > gptMaxEntries:
		return nil, fmt.Errorf("%d entries", h.count)
	case h.entrySize < gptEntrySize || h.entrySize > gptMaxEntrySize || h.entrySize&(h.entrySize-1) != 0:
		return nil, fmt.Errorf("entries of %d bytes", h.entrySize)
	case h.entriesLBA < 2 || h.firstUsable*sectorSize < h.entriesLBA*sectorSize+h.entriesBytes() || h.lastUsable < h.firstUsable || h.alternate <= h.lastUsable:
		return nil, fmt.Errorf("its parts overlap")
	}
	return h, nil
}

func (h *gptHeader) table(entries []byte) (*Table, error) {
	if crc32.ChecksumIEEE(entries) != h.entriesCRC {
		return nil, fmt.Errorf("the checksum of the entries is wrong")
	}
	t := &Table{
		FirstUsable: h.firstUsable, LastUsable: h.lastUsable, AlternateLBA: h.alternate,
		entrySectors: (h.entriesBytes() + sectorSize - 1) / sectorSize,
	}
	for i := range int(h.count) {
		e := entries[int64(i)*h.entrySize:][:gptEntrySize]
		p := Partition{Number: i + 1, Type: GUID(e[0:16]), Unique: GUID(e[16:32])}
		if p.Type == (GUID{}) {
			continue
		}
		first, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if first < uint64(h.firstUsable) || last > uint64(h.lastUsable) || first > last {
			return nil, fmt.Errorf("partition %d is from %d to %d, usable is %d to %d", p.Number, first, last, h.firstUsable, h.lastUsable)
		}
		p.First, p.Last = int64(first), int64(last)
		p.Attributes = binary.LittleEndian.Uint64(e[48:])
		p.Name = utf16Name(e[56:gptEntrySize])
		t.Partitions = append(t.Partitions, p)
	}
	byPlace := slices.SortedFunc(slices.Values(t.Partitions), func(a, b Partition) int { return cmp.Compare(a.First, b.First) })
	for i := range byPlace[:max(0, len(byPlace)-1)] {
		if byPlace[i].Last >= byPlace[i+1].First {
			return nil, fmt.Errorf("partitions %d and %d overlap", byPlace[i].Number, byPlace[i+1].Number)
		}
	}
	return t, nil
}

// utf16Name reads a little-endian UTF-16 string that ends at a zero or the end.
func utf16Name(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
