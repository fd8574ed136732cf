package esxisim

import (
	"fmt"
	"strings"
)

// Sector is the unit of partition tables, in bytes. ESXi's installer knows
// disks with 512-byte sectors only.
const Sector = 512

// GUID is the type or identity of a partition, as text: upper case, with dashes.
type GUID string

// The partition types of ESXi.
const (
	TypeESP    GUID = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	TypeFAT    GUID = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7" // boot banks, locker, scratch
	TypeDump   GUID = "9D275380-40AD-11DB-BF97-000C2911D1B8"
	TypeVMFS   GUID = "AA31E02A-400F-11DB-9590-000C2911D1B8"
	TypeOSData GUID = "4EB2EA39-7855-4790-A79E-FAE495E21F8D"
)

// legacyBootable is the GPT attribute that partedUtil prints as 128.
const legacyBootable = 1 << 2

// Partition is one entry of a partition table.
type Partition struct {
	Number      int
	Type        GUID
	First, Last int64 // sectors, both inclusive
	Attributes  uint64
}

// LayoutOptions change what the installer makes of a disk.
type LayoutOptions struct {
	MediaSize string // systemMediaSize=: "min", "small", "default", "max" or ""
	NoVMFS    bool   // --novmfsondisk
	USB       bool   // a USB stick or SD card: no scratch, OSDATA or datastore
}

// Layout returns the partitions that the installer of a version ("6.7",
// "8.0.3") makes on a disk of that many bytes, in the order of their sectors.
// A disk that is too small is an error in the installer's words.
func Layout(version string, diskSize int64, o LayoutOptions) ([]Partition, error) {
	r, err := NewRelease(Options{Version: version, Build: "12345678"})
	if err != nil {
		return nil, err
	}
	return r.Layout(diskSize, o)
}

// Layout is the package's Layout for a release.
func (r Release) Layout(diskSize int64, o LayoutOptions) ([]Partition, error) {
	lastUsable := diskSize/Sector - 34
	if r.AtLeast(7) {
		return r.layout7(diskSize, lastUsable, o)
	}
	return layout6(diskSize, lastUsable, o)
}

func layout6(diskSize, lastUsable int64, o LayoutOptions) ([]Partition, error) {
	if diskSize < 1<<30 {
		return nil, fmt.Errorf("the disk is smaller than 1 GiB (%d bytes)", diskSize)
	}
	parts := []Partition{
		{1, TypeESP, 64, 8191, legacyBootable},
		{5, TypeFAT, 8224, 520191, 0},
		{6, TypeFAT, 520224, 1032191, 0},
		{7, TypeDump, 1032224, 1257471, 0},
		{8, TypeFAT, 1257504, 1843199, 0},
	}
	for _, p := range []Partition{
		{9, TypeDump, 1843200, 7086079, 0},
		{2, TypeFAT, 7086080, 15472639, 0},
		{3, TypeVMFS, 15472640, lastUsable, 0},
	} {
		if p.Last > lastUsable || p.Last < p.First || o.USB && p.Number != 9 || o.NoVMFS && p.Type == TypeVMFS {
			break
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// gap lies between the partitions of 7.0 and later, in sectors.
const gap = 2048

// osDataEnd is where systemMediaSize lets OSDATA end, in bytes (Broadcom KB
// 81166 calls these 33, 69 and 138 GB).
var osDataEnd = map[string]int64{"min": 32 << 30, "small": 64 << 30, "default": 128 << 30, "max": 1 << 62, "": 128 << 30}

// minDatastore is the room below which no datastore partition is made, in sectors.
const minDatastore = 1 << 30 / Sector

func (r Release) layout7(diskSize, lastUsable int64, o LayoutOptions) ([]Partition, error) {
	smallest := int64(10e9)
	if r.AtLeast(8) {
		smallest = 32e9
	}
	if diskSize < smallest && !o.USB {
		return nil, fmt.Errorf("disk device does not support OSDATA: it has %d bytes, %d are needed", diskSize, smallest)
	}
	bank := int64(4095 << 20)
	switch {
	case diskSize < 10e9:
		bank = 500 << 20
	case diskSize < 33e9:
		bank = 1 << 30
	}
	parts := []Partition{{1, TypeESP, 64, 204863, legacyBootable}}
	next := int64(204863 + 1 + 4032) // 208896
	add := func(number int, kind GUID, sectors int64) {
		p := Partition{Number: number, Type: kind, First: next, Last: next + sectors - 1}
		parts = append(parts, p)
		next = p.Last + gap + 1
	}
	add(5, TypeFAT, bank/Sector)
	add(6, TypeFAT, bank/Sector)
	if o.USB {
		return parts, nil
	}
	limit, ok := osDataEnd[o.MediaSize]
	if !ok || !r.knowsMediaSize() {
		limit = osDataEnd["default"]
	}
	add(7, TypeOSData, min(limit/Sector-1, lastUsable)-next+1)
	if room := lastUsable - next + 1; room >= minDatastore && !o.NoVMFS {
		add(8, TypeVMFS, room)
	}
	return parts, nil
}

// knowsMediaSize: the option came with 7.0U1c.
func (r Release) knowsMediaSize() bool {
	return r.AtLeast(7, 0, 2) || r.AtLeast(7, 0, 1) && r.Build >= "17325551"
}

// String is a line of partedUtil getptbl, which writes GUIDs without dashes.
func (p Partition) String() string {
	name := map[GUID]string{TypeESP: "systemPartition", TypeFAT: "linuxNative", TypeDump: "vmkDiagnostic", TypeVMFS: "vmfs", TypeOSData: "vmfsl"}[p.Type]
	attributes := 0
	if p.Attributes&legacyBootable != 0 {
		attributes = 128
	}
	return fmt.Sprintf("%d %d %d %s %s %d", p.Number, p.First, p.Last, strings.ReplaceAll(string(p.Type), "-", ""), name, attributes)
}
