// Package image turns the raw disk that an ESXi installer leaves behind into
// the file MAAS deploys: it reads partition tables (ReadTable) and FAT file
// systems, puts the deployment's files into the EFI system partition
// (WritePayload), packs the disk (Pack) and checks the packed file (Verify).
//
// A packed image is one gzip member of the disk from its first byte to the last
// that was written. Holes cost next to nothing: they are neither read nor
// compressed, see Pack and zeros.go.
//
// Sizes and offsets are in bytes, unless they are called LBA: those count
// sectors of 512 bytes. Everything that is read here came out of a foreign
// installer or could have been edited since, so all of it is bounded.
package image

// sectorSize is the unit of an LBA. ESXi's installer makes tables for 512-byte
// sectors only.
const sectorSize = 512

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)
