package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// errNotFAT is returned for a partition that holds no FAT file system.
var errNotFAT = errors.New("not a FAT file system")

// fat reads a FAT12, FAT16 or FAT32 file system (Microsoft's FAT specification
// 1.03). What is one, and which of the three, is decided as Linux does, since a
// Linux mounts it when the image is deployed.
type fat struct {
	r           io.ReaderAt
	bits        int   // of an entry of the table: 12, 16 or 32
	clusterSize int64 // in bytes
	clusters    int64 // their numbers are 2 to clusters+1
	tableStart  int64
	dataStart   int64

	rootStart   int64 // FAT12 and FAT16: the root directory has a fixed place
	rootSize    int64
	rootCluster int64 // FAT32

	page      [fatPage]byte // the part of the table read last
	pageStart int64         // offset in the table; -1: none
}

// fatPage is a multiple of 3, so that no 12-bit entry lies across two pages.
const fatPage = 3 * 4096

// openFAT reads the parameters of the file system in the first size bytes of r.
func openFAT(r io.ReaderAt, size int64) (*fat, error) {
	if size < sectorSize {
		return nil, errNotFAT
	}
	var b [sectorSize]byte
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return nil, fmt.Errorf("cannot read the boot sector: %w", err)
	}
	le := binary.LittleEndian
	sector := int64(le.Uint16(b[11:]))
	perCluster := int64(b[13])
	reserved := int64(le.Uint16(b[14:]))
	copies := int64(b[16])
	rootEntries := int64(le.Uint16(b[17:]))
	total := int64(le.Uint16(b[19:]))
	media := b[21]
	perTable := int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	powerOf2 := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	if !powerOf2(sector) || sector < 512 || sector > 4096 || !powerOf2(perCluster) || perCluster > 128 ||
		reserved == 0 || copies == 0 || (media < 0xf8 && media != 0xf0) {
		return nil, errNotFAT
	}
	f := &fat{r: r, clusterSize: sector * perCluster, tableStart: reserved * sector, pageStart: -1}
	if perTable == 0 {
		perTable = int64(le.Uint32(b[36:]))
		f.bits = 32
		f.rootCluster = int64(le.Uint32(b[44:]))
	}
	if perTable == 0 || (f.bits == 0) == (rootEntries == 0) {
		return nil, errNotFAT
	}
	f.rootStart = (reserved + copies*perTable) * sector
	f.rootSize = rootEntries * dirEntrySize
	f.dataStart = f.rootStart + (f.rootSize+sector-1)/sector*sector
	if total*sector > size {
		return nil, fmt.Errorf("the FAT file system says it has %d bytes, the partition has %d", total*sector, size)
	}
	if f.dataStart >= total*sector {
		return nil, errNotFAT
	}
	f.clusters = (total*sector - f.dataStart) / f.clusterSize
	if f.bits == 0 {
		f.bits = 16
		if f.clusters <= 4084 {
			f.bits = 12
		}
	}
	f.clusters = min(f.clusters, perTable*sector*8/int64(f.bits)-2)
	if f.clusters < 1 {
		return nil, errNotFAT
	}
	return f, nil
}

// clusterOffset returns where a cluster's data begins.
func (f *fat) clusterOffset(cluster int64) int64 {
	return f.dataStart + (cluster-2)*f.clusterSize
}

// entry returns a cluster's entry in the table: 0 is free, and a number outside
// of 2 to clusters+1 ends a chain.
func (f *fat) entry(cluster int64) (int64, error) {
	offset := cluster * int64(f.bits) / 8
	if start := offset / fatPage * fatPage; start != f.pageStart {
		// The last page may be shorter than the rest of the table's sector.
		tableSize := ((f.clusters+2)*int64(f.bits) + 7) / 8
		n := min(fatPage, tableSize-start)
		if _, err := f.r.ReadAt(f.page[:n], f.tableStart+start); err != nil {
			f.pageStart = -1
			return 0, fmt.Errorf("cannot read the file allocation table: %w", err)
		}
		f.pageStart = start
	}
	b := f.page[offset-f.pageStart:]
	switch f.bits {
	case 12:
		v := int64(b[0]) | int64(b[1])<<8
		if cluster&1 != 0 {
			return v >> 4, nil
		}
		return v & 0xfff, nil
	case 16:
		return int64(binary.LittleEndian.Uint16(b)), nil
	}
	return int64(binary.LittleEndian.Uint32(b) & 0x0fffffff), nil
}

// inRange tells whether a number is that of a data cluster.
func (f *fat) inRange(cluster int64) bool { return cluster >= 2 && cluster < f.clusters+2 }

// freeBytes adds up the free clusters.
func (f *fat) freeBytes() (int64, error) {
	var free int64
	for c := int64(2); c < f.clusters+2; c++ {
		next, err := f.entry(c)
		if err != nil {
			return 0, err
		}
		if next == 0 {
			free++
		}
	}
	return free * f.clusterSize, nil
}

// readChain reads up to limit bytes of a chain of clusters. A chain that goes on
// after that, or that ends early, is for the caller to judge; one that leads out
// of the file system or into free space is an error. The limit also ends loops.
func (f *fat) readChain(first, limit int64) ([]byte, error) {
	var data []byte
	for c := first; int64(len(data)) < limit; {
		if !f.inRange(c) {
			return nil, fmt.Errorf("a chain leads to cluster %d of %d", c, f.clusters)
		}
		start := int64(len(data))
		n := min(f.clusterSize, limit-start)
		data = append(data, make([]byte, n)...)
		if _, err := f.r.ReadAt(data[start:], f.clusterOffset(c)); err != nil {
			return nil, fmt.Errorf("cannot read cluster %d: %w", c, err)
		}
		next, err := f.entry(c)
		if err != nil {
			return nil, err
		}
		if next >= f.endMark() {
			break
		}
		c = next
	}
	return data, nil
}

// endMark is the lowest value that ends a chain.
func (f *fat) endMark() int64 {
	switch f.bits {
	case 12:
		return 0xff8
	case 16:
		return 0xfff8
	}
	return 0x0ffffff8
}
