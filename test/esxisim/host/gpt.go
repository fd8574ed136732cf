package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim"
)

// The GUID partition table of a disk that has a file (UEFI 2.10, 5.3).
const (
	sector     = esxisim.Sector
	entryCount = 128
	entrySize  = 128
	tableSize  = entryCount * entrySize
	firstLBA   = 34 // the first usable sector
	headerSize = 92
	legacyBoot = 1 << 2
)

var errNoTable = errors.New("no GUID partition table")

// readGPT reads the table whose header is in that sector.
func readGPT(disk *os.File, lba int64) (Table, error) {
	header := make([]byte, sector)
	if _, err := disk.ReadAt(header, lba*sector); err != nil {
		return Table{}, err
	}
	le := binary.LittleEndian
	if !bytes.HasPrefix(header, []byte("EFI PART")) || le.Uint32(header[12:]) != headerSize {
		return Table{}, errNoTable
	}
	sum := le.Uint32(header[16:])
	clear(header[16:20])
	if crc32.ChecksumIEEE(header[:headerSize]) != sum || le.Uint32(header[80:]) != entryCount || le.Uint32(header[84:]) != entrySize {
		return Table{}, errNoTable
	}
	entries := make([]byte, tableSize)
	if _, err := disk.ReadAt(entries, int64(le.Uint64(header[72:]))*sector); err != nil {
		return Table{}, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return Table{}, errNoTable
	}
	t := Table{Label: "gpt", Backup: int64(le.Uint64(header[32:]))}
	for i := range entryCount {
		e := entries[i*entrySize:]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		p := Partition{Number: i + 1, First: int64(le.Uint64(e[32:])), Last: int64(le.Uint64(e[40:])), Type: guidText(e)}
		if le.Uint64(e[48:])&legacyBoot != 0 {
			p.Attributes = 128
		}
		t.Partitions = append(t.Partitions, p)
	}
	sortBySector(t.Partitions)
	return t, nil
}

// writeGPT writes both copies of a table, the backup at the end of the disk.
// Partitions that stay keep their identity.
func writeGPT(disk *os.File, sectors int64, t Table) error {
	old := make([]byte, tableSize)
	if _, err := readGPT(disk, 1); err == nil {
		if _, err := disk.ReadAt(old, 2*sector); err != nil {
			return err
		}
	}
	le := binary.LittleEndian
	entries := make([]byte, tableSize)
	for _, p := range t.Partitions {
		at := (p.Number - 1) * entrySize
		e := entries[at:]
		copy(e, guidBytes(p.Type))
		id := sha256.Sum256(fmt.Appendf(nil, "partition %d at %d", p.Number, p.First))
		copy(e[16:32], id[:])
		if bytes.Equal(old[at:at+16], e[:16]) && le.Uint64(old[at+32:]) == uint64(p.First) {
			copy(e[16:entrySize], old[at+16:])
		}
		le.PutUint64(e[32:], uint64(p.First))
		le.PutUint64(e[40:], uint64(p.Last))
		if p.Attributes&128 != 0 {
			le.PutUint64(e[48:], le.Uint64(e[48:])|legacyBoot)
		}
	}
	var guid [16]byte
	if _, err := disk.ReadAt(guid[:], sector+56); err != nil {
		return err
	}
	if guid == [16]byte{} {
		sum := sha256.Sum256([]byte(disk.Name()))
		copy(guid[:], sum[:])
	}
	primary := gptHeader(1, sectors-1, 2, sectors, guid, entries)
	backup := gptHeader(sectors-1, 1, sectors-33, sectors, guid, entries)
	mbr := make([]byte, sector)
	if _, err := disk.ReadAt(mbr, 0); err != nil {
		return err
	}
	protect(mbr, sectors)
	for _, w := range []struct {
		at   int64
		data []byte
	}{
		{0, slices.Concat(mbr, primary, entries)}, {sectors - 33, slices.Concat(entries, backup)},
	} {
		if _, err := disk.WriteAt(w.data, w.at*sector); err != nil {
			return err
		}
	}
	return nil
}

func gptHeader(at, other, table, sectors int64, guid [16]byte, entries []byte) []byte {
	le := binary.LittleEndian
	h := make([]byte, sector)
	copy(h, "EFI PART\x00\x00\x01\x00")
	le.PutUint32(h[12:], headerSize)
	for offset, v := range map[int]int64{24: at, 32: other, 40: firstLBA, 48: sectors - 34, 72: table} {
		le.PutUint64(h[offset:], uint64(v))
	}
	copy(h[56:], guid[:])
	le.PutUint32(h[80:], entryCount)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	return h
}

// protect makes the MBR's one partition of type EE cover the disk.
func protect(mbr []byte, sectors int64) {
	clear(mbr[446:510])
	copy(mbr[446:], "\x00\x00\x02\x00\xee\xff\xff\xff")
	binary.LittleEndian.PutUint32(mbr[454:], 1)
	binary.LittleEndian.PutUint32(mbr[458:], uint32(min(sectors-1, 0xffffffff)))
	copy(mbr[510:], "\x55\xaa")
}

func guidText(b []byte) esxisim.GUID {
	s := swapped(b)
	return esxisim.GUID(strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", s[:4], s[4:6], s[6:8], s[8:10], s[10:])))
}

func guidBytes(g esxisim.GUID) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(string(g), "-", ""))
	if err != nil || len(b) != 16 {
		panic("bad GUID " + string(g)) // it has been through ParseGUID
	}
	return swapped(b)
}

// swapped changes between the order of a GUID's text and that on the disk,
// where the first three groups are little-endian.
func swapped(b []byte) []byte {
	return []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

func sortBySector(parts []Partition) {
	slices.SortStableFunc(parts, func(a, b Partition) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
}
