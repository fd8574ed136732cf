package iso

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"unicode"

	"github.com/esxid/esxid/internal/fault"
)

// sectorSize is the logical sector and, in every installer ISO, the logical
// block size (ECMA-119 6.1.2, 6.2.2).
const sectorSize = 2048

// maxImage bounds an image; installer ISOs, OEM ones included, have less than
// 2 GiB. Below it all sector numbers fit into the 32 bits they have on a CD.
const maxImage = 64 << 30

// Volume descriptors begin at sector 16 (ECMA-119 6.2.1).
const (
	firstDescriptor = 16
	maxDescriptors  = 64

	bootRecord       = 0
	primaryVolume    = 1
	descriptorSetEnd = 255
)

// Places in the primary volume descriptor (ECMA-119 8.4).
const (
	pvdVolumeID   = 40
	pvdVolumeSize = 80
	pvdBlockSize  = 128
	pvdRoot       = 156
)

// parse reads the structure of an image of size bytes.
func parse(path string, data io.ReaderAt, size int64) (*Image, error) {
	img := &Image{path: path, data: data, size: size}
	switch {
	case size == 0:
		return nil, fault.New(fault.Input, "cannot read %s: it is empty: copy or download it again", path)
	case size > maxImage:
		return nil, fault.New(fault.Input, "cannot read %s: it has %d bytes, no installer ISO has more than %d", path, size, int64(maxImage))
	}
	primary, catalog, err := img.descriptors()
	if err != nil {
		return nil, err
	}
	if primary == nil {
		return nil, img.notAnISO()
	}
	img.volumeID = printable(strings.TrimRight(string(primary[pvdVolumeID:pvdVolumeID+32]), " \x00"))

	if block := binary.LittleEndian.Uint16(primary[pvdBlockSize:]); block != sectorSize {
		return nil, fault.New(fault.Input, "cannot read %s: its block size is %d, installer ISOs have %d", path, block, sectorSize)
	}
	// Fewer sectors than there are bytes for is common (padding), more is an
	// interrupted copy or download.
	if needs := sectors(binary.LittleEndian.Uint32(primary[pvdVolumeSize:])); needs > size {
		return nil, img.cutShort("its volume", needs)
	}
	if catalog != 0 {
		if img.boot, err = img.readCatalog(catalog); err != nil {
			return nil, err
		}
	}
	if img.root, err = img.readTree(primary[pvdRoot : pvdRoot+34]); err != nil {
		return nil, err
	}
	return img, nil
}

// descriptors reads the volume descriptor set. It returns the primary volume
// descriptor, nil if there is no complete set, and the sector of the boot
// catalog, 0 if there is none.
func (img *Image) descriptors() (primary []byte, catalog uint32, err error) {
	ended := false
	n := int64(firstDescriptor)
	for ; !ended && n < firstDescriptor+maxDescriptors; n++ {
		d, err := img.descriptor(n, "CD001")
		if err != nil {
			return nil, 0, err
		}
		if d == nil {
			break
		}
		switch {
		case d[0] == bootRecord && catalog == 0 && bytes.HasPrefix(d[7:], []byte(elTorito)):
			catalog = binary.LittleEndian.Uint32(d[catalogPointer:])
		case d[0] == primaryVolume && primary == nil:
			primary, img.primary = d, n
		case d[0] == descriptorSetEnd:
			ended = true
		}
	}
	if !ended {
		primary = nil
	}
	// UDF's descriptors follow those of ISO 9660 or stand in their place
	// (ECMA-167 2/9.1).
	udf, err := img.descriptor(n, "BEA01")
	img.udf = udf != nil
	return primary, catalog, err
}

// descriptor reads sector n if it is a descriptor with the given identifier,
// else it returns nil.
func (img *Image) descriptor(n int64, id string) ([]byte, error) {
	if (n+1)*sectorSize > img.size {
		return nil, nil
	}
	d, err := img.read(n*sectorSize, sectorSize)
	if err != nil || string(d[1:6]) != id {
		return nil, err
	}
	return d, nil
}

// notAnISO says what the file is instead, for the mistakes that people make.
func (img *Image) notAnISO() error {
	head, err := img.read(0, min(img.size, 512))
	if err != nil {
		return err
	}
	advice := "it is not an ISO 9660 image, or it is cut short: copy or download it again"
	text := strings.ToLower(strings.TrimSpace(string(head)))
	switch {
	case img.udf:
		advice = "it is a UDF image, not an ESXi installer"
	case bytes.HasPrefix(head, []byte(zipMagic)):
		advice = "it is a ZIP archive, perhaps an offline bundle: esxid needs the installer ISO"
	case strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"):
		advice = "it is a web page: the download failed, perhaps at its login page"
	}
	return fault.New(fault.Input, "cannot read %s: %s", img.path, advice)
}

// cutShort is the error for something that ends behind the end of the file.
func (img *Image) cutShort(what string, end int64) error {
	return fault.New(fault.Input, "cannot read %s: it is cut short: %s ends at byte %d, the file at byte %d: copy or download it again",
		img.path, what, end, img.size)
}

// sectors converts a number of sectors to bytes.
func sectors(n uint32) int64 { return int64(n) * sectorSize }

// printable makes text from an image fit for messages and JSON: valid UTF-8 of
// bounded length without control characters.
func printable(s string) string {
	const most = 255
	if len(s) > most {
		s = s[:most-3] + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
