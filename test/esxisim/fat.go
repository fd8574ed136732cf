package esxisim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// FAT describes a FAT16 file system to write.
type FAT struct {
	Sectors int64
	Hidden  int64  // sectors before it on the disk
	Label   string // at most 11 characters, upper case
	Serial  uint32
	// Marker is the UUID that VMware keeps in the second sector of its own FAT
	// volumes, behind the text "VMWARE FAT16"; its boot loader skips a bank
	// without it. nil for a plain volume.
	Marker []byte
}

// The fixed part of the geometry, as VMware's volumes have it.
const (
	fatReserved    = 4   // sectors: the boot sector, the marker, two spare ones
	fatRootEntries = 512 // 32 sectors
	fatMaxClusters = 65524
	fatMinClusters = 4085
	fatFirst       = 2 // number of the first cluster
)

// fatWriter lays a file system out: directories and files take consecutive
// clusters in the order in which they are added, so nothing is fragmented.
type fatWriter struct {
	w          io.WriterAt
	offset     int64 // bytes, of the file system in w
	perCluster int64 // sectors
	clusters   int64
	fatSectors int64
	table      []byte
	next       int64 // first free cluster
}

// WriteFAT writes a FAT16 file system with the given files at offset of w. The
// names in their paths must be 8.3, all upper or all lower case on each side
// of the dot; directories are made as needed. Free clusters are not written.
func WriteFAT(w io.WriterAt, offset int64, f FAT, files []Module) error {
	fw, err := newFATWriter(w, offset, f.Sectors)
	if err != nil {
		return err
	}
	root := &fatDir{children: map[string]*fatDir{}}
	for _, file := range files {
		if err := root.add(file); err != nil {
			return err
		}
	}
	entries, err := fw.writeDir(root, 0)
	if err != nil {
		return err
	}
	if f.Label != "" {
		entries = append(fatEntry([11]byte(f.label()), 0, attrLabel, 0, 0), entries...)
	}
	if len(entries) > fatRootEntries*fatEntrySize {
		return fmt.Errorf("too many files in the root directory of a FAT file system")
	}
	area := make([]byte, (fatReserved+2*fw.fatSectors)*Sector+fatRootEntries*fatEntrySize)
	copy(area, fw.bootSector(f))
	if f.Marker != nil {
		copy(area[Sector:], append([]byte("VMWARE FAT16    "), f.Marker...))
	}
	copy(area[fatReserved*Sector:], fw.table)
	copy(area[(fatReserved+fw.fatSectors)*Sector:], fw.table)
	copy(area[(fatReserved+2*fw.fatSectors)*Sector:], entries)
	_, err = w.WriteAt(area, offset)
	return err
}

// newFATWriter chooses the smallest clusters with which FAT16 reaches the size.
func newFATWriter(w io.WriterAt, offset, sectors int64) (*fatWriter, error) {
	for perCluster := int64(1); perCluster <= 128; perCluster *= 2 {
		clusters, fat := (sectors-fatReserved-32)/perCluster, int64(0)
		for range 2 { // the tables' size depends on the clusters', and the reverse
			fat = ((clusters+fatFirst)*2 + Sector - 1) / Sector
			clusters = (sectors - fatReserved - 32 - 2*fat) / perCluster
		}
		if clusters > fatMaxClusters {
			continue
		}
		if clusters < fatMinClusters {
			break
		}
		fw := &fatWriter{w: w, offset: offset, perCluster: perCluster, clusters: clusters, fatSectors: fat, next: fatFirst}
		fw.table = make([]byte, fat*Sector)
		copy(fw.table, "\xf8\xff\xff\xff")
		return fw, nil
	}
	return nil, fmt.Errorf("a FAT16 file system cannot have %d sectors", sectors)
}

// bootSector is the BIOS parameter block (Microsoft FAT specification 1.03,
// section 3).
func (fw *fatWriter) bootSector(f FAT) []byte {
	b := make([]byte, Sector)
	copy(b, "\xeb\x3c\x90VMWARE  ")
	le := binary.LittleEndian
	le.PutUint16(b[11:], Sector)
	b[13] = byte(fw.perCluster)
	le.PutUint16(b[14:], fatReserved)
	b[16] = 2
	le.PutUint16(b[17:], fatRootEntries)
	if f.Sectors < 1<<16 {
		le.PutUint16(b[19:], uint16(f.Sectors))
	} else {
		le.PutUint32(b[32:], uint32(f.Sectors))
	}
	b[21] = 0xf8
	le.PutUint16(b[22:], uint16(fw.fatSectors))
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], uint32(f.Hidden))
	b[36], b[38] = 0x80, 0x29
	le.PutUint32(b[39:], f.Serial)
	copy(b[43:], f.label())
	copy(b[54:], "FAT16   ")
	copy(b[62:], "\xcd\x18\xeb\xfe") // int 18h: not bootable, try the next device
	copy(b[510:], "\x55\xaa")
	return b
}

// label is the volume's name as it is stored.
func (f FAT) label() []byte {
	return fmt.Appendf(nil, "%-11.11s", cmp.Or(f.Label, "NO NAME"))
}

// allocate takes clusters for size bytes, chains them and returns the first
// one's number and its offset in the writer.
func (fw *fatWriter) allocate(size int64) (first, offset int64, err error) {
	perCluster := fw.perCluster * Sector
	count := (size + perCluster - 1) / perCluster
	if count == 0 {
		return 0, 0, nil
	}
	first = fw.next
	if first+count > fw.clusters+fatFirst {
		return 0, 0, fmt.Errorf("a FAT file system of %d MiB is full", fw.clusters*perCluster>>20)
	}
	for n := first; n < first+count-1; n++ {
		binary.LittleEndian.PutUint16(fw.table[2*n:], uint16(n+1))
	}
	binary.LittleEndian.PutUint16(fw.table[2*(first+count-1):], 0xffff)
	fw.next += count
	data := (fatReserved+2*fw.fatSectors)*Sector + fatRootEntries*fatEntrySize
	return first, fw.offset + data + (first-fatFirst)*perCluster, nil
}

// shortName is the name as a directory entry holds it, without its dot.
func shortName(name string) (short [11]byte, err error) {
	base, ext, _ := strings.Cut(strings.ToUpper(name), ".")
	valid := func(s string) bool {
		return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-~!#$%&'()@^`{}") == ""
	}
	if base == "" || len(base) > 8 || len(ext) > 3 || !valid(base) || !valid(ext) {
		return short, fmt.Errorf("%q is no 8.3 name", name)
	}
	copy(short[:], fmt.Sprintf("%-8s%-3s", base, ext))
	return short, nil
}
