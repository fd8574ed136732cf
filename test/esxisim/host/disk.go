package host

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Table reads a disk's partition table: from its file if it has one, else from
// the state.
func (m *Machine) Table(d *Device) (Table, error) {
	if d.Image == "" {
		i := slices.IndexFunc(m.State.Disks, func(s DiskState) bool { return s.Name == d.Name })
		t := m.State.Disks[i].Table
		t.Partitions = slices.Clone(t.Partitions)
		return t, nil
	}
	disk, err := os.Open(d.Image)
	if err != nil {
		return Table{}, err
	}
	defer disk.Close()
	t, err := readGPT(disk, 1)
	if errors.Is(err, errNoTable) {
		return Table{Label: "unknown"}, nil
	}
	return t, err
}

// WriteTable replaces a disk's partition table, with the backup at the end.
func (m *Machine) WriteTable(d *Device, t Table) error {
	sortBySector(t.Partitions)
	t.Backup, t.Damaged = d.Sectors()-1, false
	if d.Image == "" {
		i := slices.IndexFunc(m.State.Disks, func(s DiskState) bool { return s.Name == d.Name })
		m.State.Disks[i].Table = t
		return m.linkDisks()
	}
	disk, err := os.OpenFile(d.Image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := writeGPT(disk, d.Sectors(), t); err != nil {
		return err
	}
	if err := m.linkDisks(); err != nil {
		return err
	}
	return disk.Close()
}

// LastUsable is the last sector that a partition may have.
func (d Device) LastUsable() int64 { return d.Sectors() - 34 }

// InUse says why a partition must not be removed or shrunk; "" if it may.
func (m *Machine) InUse(d *Device, number int) string {
	for _, v := range m.State.Volumes {
		for _, e := range v.Extents {
			if e.Disk == d.Name && e.Partition == number && !v.Unmounted {
				return "volume " + cmp.Or(v.Label, v.UUID) + " is on it"
			}
		}
	}
	if d.Boot && number == 1 {
		return "the system was started from it"
	}
	return ""
}

// Node finds the disk and the partition of "NAME:N" or a path to it.
func (m *Machine) Node(node string) (*Device, *Partition, error) {
	colon := strings.LastIndexByte(node, ':')
	if colon < 0 {
		return nil, nil, fmt.Errorf("%s: not a partition", node)
	}
	d := m.Device(node[:colon])
	if d == nil {
		return nil, nil, fmt.Errorf("%s: No such file or directory", node)
	}
	t, err := m.Table(d)
	if err != nil {
		return nil, nil, err
	}
	for i := range t.Partitions {
		if fmt.Sprint(t.Partitions[i].Number) == node[colon+1:] {
			return d, &t.Partitions[i], nil
		}
	}
	return nil, nil, fmt.Errorf("%s: No such file or directory", node)
}

// Where a VMFS volume is described, from the start of its partition.
const (
	lvmHeader  = 1 << 20
	superBlock = 19 << 20
)

var (
	lvmMagic   = []byte("\x0d\xd0\x01\xc0")
	superMagic = []byte("\x5e\xf1\xab\x2f")
)

// findVolume adds the datastore that a VMFS partition holds, if any: in a file
// by its superblock, else as the hardware file says.
func (m *Machine) findVolume(d *Device, p Partition) error {
	label := d.Datastore
	if d.Image != "" {
		var err error
		if label, err = readLabel(d.Image, p.First*sector); err != nil {
			return err
		}
	}
	if label == "" {
		return nil
	}
	m.State.Volumes = append(m.State.Volumes, Volume{
		Label: label, UUID: m.newVolumeUUID(), Type: "VMFS-6", Size: vmfsSize(p.Sectors()), Used: vmfsUsed, Extents: []Extent{{d.Name, p.Number, p.Sectors()}},
	})
	return nil
}

func readLabel(image string, offset int64) (string, error) {
	disk, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer disk.Close()
	super := make([]byte, 128)
	if _, err := disk.ReadAt(super, offset+superBlock); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if !bytes.HasPrefix(super, superMagic) {
		return "", nil
	}
	label, _, _ := bytes.Cut(super[20:], []byte{0})
	return string(label), nil
}

// writeVolume marks a partition of a disk with a file as VMFS.
func writeVolume(d *Device, p Partition, v Volume) error {
	if d.Image == "" {
		return nil
	}
	disk, err := os.OpenFile(d.Image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	id := make([]byte, 16)
	binary.LittleEndian.PutUint64(id, uint64(p.Sectors()))
	for at, data := range map[int64][]byte{lvmHeader: slices.Concat(lvmMagic, id), superBlock: slices.Concat(superMagic, id, []byte(v.Label), make([]byte, 1))} {
		if _, err := disk.WriteAt(data, p.First*sector+at); err != nil {
			return err
		}
	}
	return disk.Close()
}

// vmfsSize is what a VMFS volume makes of that many sectors: it grows in steps
// of 256 MiB.
func vmfsSize(sectors int64) int64 { return sectors * sector >> 28 << 28 }
