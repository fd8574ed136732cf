package iso

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
)

// Whole reports what the file at path lacks to be as long as its volume
// descriptor says, so that a copy which stalls is not taken for a finished one.
// It returns nil for a complete ISO and for anything else: what is not an ISO
// is for Open to refuse.
func Whole(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	descriptor := make([]byte, sectorSize)
	if _, err := file.ReadAt(descriptor, firstDescriptor*sectorSize); err != nil {
		return nil
	}
	if descriptor[0] != primaryVolume || string(descriptor[1:6]) != "CD001" {
		return nil
	}
	if needs := sectors(binary.LittleEndian.Uint32(descriptor[pvdVolumeSize:])); needs > info.Size() {
		return fmt.Errorf("%d of %d bytes are there", info.Size(), needs)
	}
	return nil
}
