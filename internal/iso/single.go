package iso

import (
	"bytes"
	"encoding/binary"
	"regexp"

	"github.com/esxid/esxid/internal/fault"
)

// Sectors of the image that Single makes.
const (
	singleTerminator = 17
	singlePathTableL = 18
	singlePathTableM = 19
	singleRoot       = 20
	singleData       = 21

	maxSingle = 16 << 20
)

var (
	// name8Dot3 is an ISO 9660 level 1 file name (ECMA-119 7.5, 10.1).
	name8Dot3 = regexp.MustCompile(`^[A-Z0-9_]{1,8}(\.[A-Z0-9_]{1,3})?$`)
	dWord     = regexp.MustCompile(`^[A-Z0-9_]{0,32}$`)
)

// Single returns a plain ISO 9660 image, without Rock Ridge or Joliet, with one
// file in its root: the CD that brings the kickstart. The installer compares
// names exactly and understands plain names only, so name must be of the form
// 8.3 in upper case. Equal arguments give equal bytes.
func Single(volumeID, name string, data []byte) ([]byte, error) {
	switch {
	case !dWord.MatchString(volumeID):
		return nil, fault.New(fault.Usage, "cannot make an ISO with the volume id %q: use at most 32 of A-Z, 0-9 and _", volumeID)
	case !name8Dot3.MatchString(name):
		return nil, fault.New(fault.Usage, "cannot make an ISO with the file name %q: use upper case and at most 8.3 characters", name)
	case len(data) > maxSingle:
		return nil, fault.New(fault.Input, "cannot make an ISO with %s: it has %d bytes, more than %d", name, len(data), maxSingle)
	}
	size := singleData*sectorSize + roundUp(int64(len(data)))
	out := make([]byte, size)
	sector := func(n int) []byte { return out[n*sectorSize : (n+1)*sectorSize] }

	root := directoryRecord("\x00", flagDirectory, singleRoot, sectorSize)
	primaryDescriptor(sector(firstDescriptor), volumeID, uint32(size/sectorSize), root)
	copy(sector(singleTerminator), "\xffCD001\x01")
	// A path table record of the root: length of the name, extended
	// attributes, extent, number of the parent, name (ECMA-119 9.4).
	copy(sector(singlePathTableL), []byte{1, 0, singleRoot, 0, 0, 0, 1, 0, 0, 0})
	copy(sector(singlePathTableM), []byte{1, 0, 0, 0, 0, singleRoot, 0, 1, 0, 0})
	copy(sector(singleRoot), bytes.Join([][]byte{
		root,
		directoryRecord("\x01", flagDirectory, singleRoot, sectorSize),
		directoryRecord(name+";1", 0, singleData, uint32(len(data))),
	}, nil))
	copy(out[singleData*sectorSize:], data)
	return out, nil
}

// primaryDescriptor fills in a primary volume descriptor (ECMA-119 8.4).
func primaryDescriptor(d []byte, volumeID string, size uint32, root []byte) {
	const (
		systemID      = 8
		setSize       = 120
		sequence      = 124
		pathTableSize = 132
		pathTableL    = 140
		pathTableM    = 148
		texts         = 190 // volume set, publisher, preparer, application, three files
		dates         = 813 // created, modified, expires, effective: 17 bytes each
		fileStructure = 881
	)
	copy(d, "\x01CD001\x01")
	fill(d[systemID:pvdVolumeSize-8], ' ')
	copy(d[pvdVolumeID:], volumeID)
	putBoth32(d[pvdVolumeSize:], size)
	putBoth16(d[setSize:], 1)
	putBoth16(d[sequence:], 1)
	putBoth16(d[pvdBlockSize:], sectorSize)
	putBoth32(d[pathTableSize:], 10)
	binary.LittleEndian.PutUint32(d[pathTableL:], singlePathTableL)
	binary.BigEndian.PutUint32(d[pathTableM:], singlePathTableM)
	copy(d[pvdRoot:], root)
	fill(d[texts:dates], ' ')
	for at := dates; at < fileStructure; at += 17 {
		fill(d[at:at+16], '0') // not specified
	}
	d[fileStructure] = 1
}

// directoryRecord makes a directory record (ECMA-119 9.1). Its date is left
// empty.
func directoryRecord(name string, flags byte, lba, size uint32) []byte {
	const sequence = 28
	r := make([]byte, (recordName+len(name)+1)/2*2)
	r[0] = byte(len(r))
	putBoth32(r[recordExtent:], lba)
	putBoth32(r[recordLength:], size)
	r[recordFlags] = flags
	putBoth16(r[sequence:], 1)
	r[recordNameLength] = byte(len(name))
	copy(r[recordName:], name)
	return r
}

// putBoth32 and putBoth16 store a number in both byte orders (ECMA-119 7.3.3,
// 7.2.3).
func putBoth32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func putBoth16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func fill(b []byte, c byte) {
	for i := range b {
		b[i] = c
	}
}
