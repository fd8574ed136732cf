package iso

import (
	"bytes"
	"maps"
	"slices"

	"github.com/esxid/esxid/internal/fault"
)

// The boot loader's configuration, for BIOS and for UEFI.
const (
	biosBootConfig = "BOOT.CFG"
	uefiBootConfig = "EFI/BOOT/BOOT.CFG"
)

// Patch says what to write over an image, for example into an overlay on top of
// the untouched file.
type Patch struct {
	Size   int64 // of the patched image: a multiple of 2048
	Writes []Write
}

// Write is one piece of a Patch. Offset and len(Data) are multiples of 2048.
type Write struct {
	Offset int64
	Data   []byte
}

// PatchBootConfig plans the change of the kernel options in both boot.cfg files
// and nothing else. The new texts stand behind the end of the file, where they
// may have any length; the two directory records point to them, and the volume
// is as long as the patched image. Boot images and boot catalog do not move.
func (img *Image) PatchBootConfig(o BootOptions) (Patch, error) {
	if err := o.check(); err != nil {
		return Patch{}, err
	}
	p := patcher{img: img, sectors: map[int64][]byte{}, end: roundUp(img.size)}
	for _, path := range []string{biosBootConfig, uefiBootConfig} {
		if err := p.patch(path, o); err != nil {
			return Patch{}, err
		}
	}
	if err := p.put32(img.primary*sectorSize+pvdVolumeSize, uint32(p.end/sectorSize)); err != nil {
		return Patch{}, err
	}
	patch := Patch{Size: p.end}
	for _, n := range slices.Sorted(maps.Keys(p.sectors)) {
		if last := len(patch.Writes) - 1; last >= 0 && patch.Writes[last].end() == n*sectorSize {
			patch.Writes[last].Data = append(patch.Writes[last].Data, p.sectors[n]...)
			continue
		}
		patch.Writes = append(patch.Writes, Write{n * sectorSize, p.sectors[n]})
	}
	return patch, nil
}

func (w Write) end() int64 { return w.Offset + int64(len(w.Data)) }

// patcher collects changed sectors.
type patcher struct {
	img     *Image
	sectors map[int64][]byte
	end     int64  // of the patched image so far
	lba     uint32 // of the text written last
	text    []byte
}

// patch plans the new text of one boot.cfg.
func (p *patcher) patch(path string, o BootOptions) error {
	n, err := p.img.lookup(path)
	if err != nil {
		return err
	}
	config, err := p.img.bootConfig(path)
	if err != nil {
		return err
	}
	config.setKernelOptions(o.apply(config.kernelOptions()))

	// The two files are mostly the same, and may be one extent with two
	// names: one new copy does for both then.
	if text := config.text(); p.text == nil || !bytes.Equal(text, p.text) {
		p.append(text)
	}
	if err := p.put32(n.record+recordExtent, p.lba); err != nil {
		return err
	}
	return p.put32(n.record+recordLength, uint32(len(p.text)))
}

// append puts text behind the end of the image. The rest of its last sector is
// filled with line ends, which mean nothing to a loader that reads too far.
func (p *patcher) append(text []byte) {
	p.text, p.lba = text, uint32(p.end/sectorSize)
	padded := bytes.Clone(text)
	padded = append(padded, bytes.Repeat([]byte("\n"), int(roundUp(int64(len(text))))-len(text))...)
	for sector := range slices.Chunk(padded, sectorSize) {
		p.sectors[p.end/sectorSize] = sector
		p.end += sectorSize
	}
}

// put32 changes a number in the image that is stored in both byte orders.
func (p *patcher) put32(at int64, value uint32) error {
	n := at / sectorSize
	if p.sectors[n] == nil {
		sector := make([]byte, sectorSize)
		start := n * sectorSize
		if err := p.img.readFull(sector[:min(sectorSize, p.img.size-start)], start); err != nil {
			return err
		}
		p.sectors[n] = sector
	}
	putBoth32(p.sectors[n][at%sectorSize:], value)
	return nil
}

// bootConfig reads one of the boot.cfg files.
func (img *Image) bootConfig(path string) (*bootConfig, error) {
	data, err := img.ReadFile(path, maxBootConfig)
	if err != nil {
		return nil, err
	}
	config, err := parseBootConfig(data)
	if err != nil {
		return nil, fault.New(fault.Input, "cannot use /%s in %s: %w", path, img.path, err)
	}
	return config, nil
}

// roundUp returns n or the next multiple of the sector size.
func roundUp(n int64) int64 { return (n + sectorSize - 1) / sectorSize * sectorSize }
