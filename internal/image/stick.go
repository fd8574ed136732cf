package image

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

const (
	stickSize  = 32 * mib
	stickStart = mib // where partitioning tools put the first partition
)

// NewStick creates the image of a USB stick with one file on it: 32 MiB, an MBR
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
	// One sector per cluster comes as near as this size gets to the 65525
	// clusters that make a file system FAT32 by count. The geometry is what a
	// BIOS makes up. The serial number is fixed: same input, same stick.
	if err := m.run(ctx, nil, "mformat", "-F", "-c", "1", "-T", sectors, "-H", hidden, "-h", "64", "-s", "32", "-N", "65736964", "-v", "ESXID", "::"); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, err)
	}
	if err := m.run(ctx, data, "mcopy", "-", "::/"+name); err != nil {
		return fmt.Errorf("cannot create %s: %w", path, err)
	}
	return w.commit()
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
