package iso

import (
	"encoding/binary"

	"github.com/esxid/esxid/internal/fault"
)

// El Torito (Phoenix and IBM, 1995) names the boot images of a CD: a boot
// record among the volume descriptors points to a catalog of 32-byte entries.
// An installer ISO has two images: ISOLINUX.BIN for BIOS, and EFIBOOT.IMG, a
// FAT file system with the loader, for UEFI.
const (
	elTorito       = "EL TORITO SPECIFICATION"
	catalogPointer = 0x47

	entrySize       = 32
	validationEntry = 0x01
	sectionHeader   = 0x90
	lastHeader      = 0x91
	bootable        = 0x88

	// virtualSector is the unit of an entry's load size.
	virtualSector = 512
)

// readCatalog reads the boot catalog: the validation entry, the default entry,
// and the entries of further sections. Only its first sector is read; that has
// room for many more entries than an installer has. Returned are the sectors
// where bootable images begin.
func (img *Image) readCatalog(lba uint32) ([]uint32, error) {
	if end := sectors(lba) + sectorSize; end > img.size {
		return nil, img.cutShort("its boot catalog", end)
	}
	catalog, err := img.read(sectors(lba), sectorSize)
	if err != nil {
		return nil, err
	}
	if catalog[0] != validationEntry || catalog[30] != 0x55 || catalog[31] != 0xAA {
		return nil, fault.New(fault.Input, "cannot read %s: its boot catalog is damaged: copy or download it again", img.path)
	}
	var boot []uint32
	left, last := 1, false // entries of the section; the default entry is one of its own
	for at := entrySize; at < sectorSize; at += entrySize {
		e := catalog[at : at+entrySize]
		switch {
		case left > 0:
			left--
			if e[0] != bootable {
				continue
			}
			start := binary.LittleEndian.Uint32(e[8:])
			end := sectors(start) + virtualSector*int64(binary.LittleEndian.Uint16(e[6:]))
			if end > img.size {
				return nil, img.cutShort("a boot image", end)
			}
			boot = append(boot, start)
		case e[0] == sectionHeader && !last, e[0] == lastHeader && !last:
			left, last = int(binary.LittleEndian.Uint16(e[2:])), e[0] == lastHeader
		default:
			return boot, nil
		}
	}
	return boot, nil
}
