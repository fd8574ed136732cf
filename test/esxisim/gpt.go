package esxisim

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// The GUID partition table (UEFI 2.10, 5.3): a protective MBR, a header in
// sector 1 with 128 entries of 128 bytes behind it, and a copy of both at the
// end of the disk.
const (
	gptEntries     = 128
	gptEntrySize   = 128
	gptTableSize   = gptEntries * gptEntrySize
	gptFirstUsable = 34
	gptHeaderSize  = 92
)

// writeTable writes both partition tables. The identities of the disk and the
// partitions are read from random; bootCode, at most 440 bytes, goes into the
// MBR.
func writeTable(disk io.WriterAt, diskSize int64, parts []Partition, bootCode []byte, random io.Reader) error {
	sectors := diskSize / Sector
	table := make([]byte, gptTableSize)
	identity := make([]byte, 16*(gptEntries+1))
	if _, err := io.ReadFull(random, identity); err != nil {
		return err
	}
	for _, p := range parts {
		entry := table[(p.Number-1)*gptEntrySize:]
		copy(entry, p.Type.bytes())
		copy(entry[16:], version4(identity[p.Number*16:][:16]))
		binary.LittleEndian.PutUint64(entry[32:], uint64(p.First))
		binary.LittleEndian.PutUint64(entry[40:], uint64(p.Last))
		binary.LittleEndian.PutUint64(entry[48:], p.Attributes)
	}
	header := func(at, other, tableAt int64) []byte {
		h := make([]byte, Sector)
		copy(h, "EFI PART\x00\x00\x01\x00")
		binary.LittleEndian.PutUint32(h[12:], gptHeaderSize)
		binary.LittleEndian.PutUint64(h[24:], uint64(at))
		binary.LittleEndian.PutUint64(h[32:], uint64(other))
		binary.LittleEndian.PutUint64(h[40:], gptFirstUsable)
		binary.LittleEndian.PutUint64(h[48:], uint64(sectors-34))
		copy(h[56:], version4(identity[:16]))
		binary.LittleEndian.PutUint64(h[72:], uint64(tableAt))
		binary.LittleEndian.PutUint32(h[80:], gptEntries)
		binary.LittleEndian.PutUint32(h[84:], gptEntrySize)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(table))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:gptHeaderSize]))
		return h
	}
	for _, w := range []struct {
		at   int64
		data []byte
	}{
		{0, protectiveMBR(sectors, bootCode)},
		{1, append(header(1, sectors-1, 2), table...)},
		{sectors - 33, append(bytes.Clone(table), header(sectors-1, 1, sectors-33)...)},
	} {
		if _, err := disk.WriteAt(w.data, w.at*Sector); err != nil {
			return fmt.Errorf("cannot write the partition table: %w", err)
		}
	}
	return nil
}

// protectiveMBR covers the disk with one partition of type EE, for systems
// that know no GPT.
func protectiveMBR(sectors int64, bootCode []byte) []byte {
	mbr := make([]byte, Sector)
	copy(mbr[:440], bootCode)
	entry := mbr[446:]
	copy(entry, "\x00\x00\x02\x00\xee\xff\xff\xff")
	binary.LittleEndian.PutUint32(entry[8:], 1)
	binary.LittleEndian.PutUint32(entry[12:], uint32(min(sectors-1, 0xffffffff)))
	copy(mbr[510:], "\x55\xaa")
	return mbr
}

// readTypes returns the types of a disk's partitions, with their numbers as
// keys; none if the disk has no GPT.
func readTypes(disk io.ReaderAt) (map[int]GUID, error) {
	data := make([]byte, Sector+gptTableSize)
	if _, err := disk.ReadAt(data, Sector); err != nil {
		return nil, err
	}
	types := map[int]GUID{}
	if !bytes.HasPrefix(data, []byte("EFI PART")) {
		return types, nil
	}
	for i := range gptEntries {
		entry := data[Sector+i*gptEntrySize:]
		if kind := guidOf(entry[:16]); binary.LittleEndian.Uint64(entry[32:]) != 0 {
			types[i+1] = kind
		}
	}
	return types, nil
}

// HasVMFS reports whether a disk holds a datastore.
func HasVMFS(disk io.ReaderAt) (bool, error) {
	types, err := readTypes(disk)
	for _, kind := range types {
		if kind == TypeVMFS {
			return true, err
		}
	}
	return false, err
}

// bytes is the GUID as it lies on disk: the first three groups little-endian.
func (g GUID) bytes() []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(string(g), "-", ""))
	if err != nil || len(b) != 16 {
		panic("bad GUID " + string(g)) // they are constants of this package
	}
	return swapGUID(b)
}

func guidOf(b []byte) GUID {
	s := swapGUID(b)
	return GUID(strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", s[:4], s[4:6], s[6:8], s[8:10], s[10:])))
}

func swapGUID(b []byte) []byte {
	return []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// version4 marks 16 random bytes, in disk order, as a random UUID.
func version4(b []byte) []byte {
	b[7] = b[7]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b
}
