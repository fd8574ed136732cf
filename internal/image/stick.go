package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

const (
	// A file system is FAT32 from 65525 clusters on, so with the smallest ones it
	// has to be larger than 32 MiB. The file is mostly a hole.
	stickSize  = 40 * mib
	stickStart = mib // where partitioning tools put the first partition
)

// NewStick creates the image of a USB stick with one file on it: 40 MiB, an MBR
// with one partition, FAT32 in it. That is what ESXi's installer finds a
// kickstart on with ks=usb:/NAME. The file can hold a password hash, so only the
// owner may read it.
func NewStick(ctx context.Context, path, name string, data []byte) error {
	if name == "" || strings.ContainsAny(name, "/:\\*?\"<>|") {
		return fault.New(fault.Failed, "cannot create %s: %q is not the name of a file on FAT", path, name)
	}
	w, err := createOutput(path, 0o600)
	if err != nil {
		return err
	}
	defer w.discard()
	if err := w.Truncate(stickSize); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, err)
	}
	if _, err := w.WriteAt(stickMBR(), 0); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, err)
	}
	m := mtools{image: w.File, offset: stickStart}
	sectors := fmt.Sprint((stickSize - stickStart) / sectorSize)
	hidden := fmt.Sprint(stickStart / sectorSize)
	// The geometry is what a BIOS makes up. The serial number is fixed: same input,
	// same stick.
	if err := m.run(ctx, nil, "mformat", "-F", "-c", "1", "-T", sectors, "-H", hidden, "-h", "64", "-s", "32", "-N", "65736964", "-v", "ESXID", "::"); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, err)
	}
	if err := m.run(ctx, data, "mcopy", "-", "::/"+name); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, err)
	}
	if err := checkStick(w, name, data); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, err)
	}
	return w.commit()
}

// checkStick reads the file back: mcopy does not fail when the disk is full.
func checkStick(r io.ReaderAt, name string, data []byte) error {
	const size = stickSize - stickStart
	fs, err := openFAT(io.NewSectionReader(r, stickStart, size), size)
	if err != nil {
		return err
	}
	root, err := fs.root()
	if err != nil {
		return err
	}
	for _, e := range root {
		if e.name == name && !e.dir {
			got, err := fs.readFile(e, int64(len(data)))
			if err == nil && !bytes.Equal(got, data) {
				err = fmt.Errorf("%s is incomplete; is it too large?", name)
			}
			return err
		}
	}
	return fmt.Errorf("%s is not there", name)
}

// stickMBR is a master boot record with one partition. Its cylinders, heads and
// sectors say "use the LBA".
func stickMBR() []byte {
	mbr := make([]byte, sectorSize)
	copy(mbr[440:], "esxd") // disk signature
	e := mbr[446:]
	copy(e[1:4], "\xfe\xff\xff")
	e[4] = 0x0c // FAT32, LBA
	copy(e[5:8], "\xfe\xff\xff")
	binary.LittleEndian.PutUint32(e[8:], stickStart/sectorSize)
	binary.LittleEndian.PutUint32(e[12:], (stickSize-stickStart)/sectorSize)
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}
