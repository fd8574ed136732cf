package host

import (
	"fmt"
	"slices"

	"github.com/esxid/esxid/test/esxisim"
)

// minVMFS is the smallest volume, in bytes (VMFS-6: 1.3 GB).
const minVMFS = 1300 << 20

// vmfsUsed is what VMFS takes for its own files, in bytes.
const vmfsUsed = 1455 << 20

// Format makes a VMFS volume on a partition. A label that is taken gets a
// number behind it, as on a real host.
func (m *Machine) Format(kind, label, node string) (Volume, error) {
	d, p, err := m.Node(node)
	if err != nil {
		return Volume{}, err
	}
	if p.Type != esxisim.TypeVMFS {
		return Volume{}, fmt.Errorf("partition type of %s is %s, not vmfs", node, p.TypeName())
	}
	if why := m.InUse(d, p.Number); why != "" {
		return Volume{}, fmt.Errorf("%s: Device or resource busy (%s)", node, why)
	}
	if vmfsSize(p.Sectors()) < minVMFS {
		return Volume{}, fmt.Errorf("%s: too small for VMFS: %d bytes", node, p.Sectors()*sector)
	}
	m.State.Volumes = slices.DeleteFunc(m.State.Volumes, func(v Volume) bool { return v.Unmounted && v.on(d.Name, p.Number) })
	name := label
	for n := 1; m.State.Volume(name) != nil; n++ {
		name = fmt.Sprintf("%s (%d)", label, n)
	}
	v := Volume{
		Label: name, UUID: m.newVolumeUUID(), Type: kind, Size: vmfsSize(p.Sectors()), Used: vmfsUsed, Extents: []Extent{{d.Name, p.Number, p.Sectors()}},
	}
	m.State.Volumes = append(m.State.Volumes, v)
	if err := writeVolume(d, *p, v); err != nil {
		return Volume{}, err
	}
	return v, m.linkVolumes()
}

// Span adds a partition to the volume with its head on another one.
func (m *Machine) Span(node, head string) (*Volume, error) {
	d, p, err := m.Node(node)
	if err != nil {
		return nil, err
	}
	hd, hp, err := m.Node(head)
	if err != nil {
		return nil, err
	}
	v := m.VolumeOn(hd.Name, hp.Number)
	switch {
	case v == nil || !v.IsVMFS() || v.Extents[0].Disk != hd.Name || v.Extents[0].Partition != hp.Number:
		return nil, fmt.Errorf("%s: not the head extent of a VMFS volume", head)
	case p.Type != esxisim.TypeVMFS:
		return nil, fmt.Errorf("partition type of %s is %s, not vmfs", node, p.TypeName())
	case m.VolumeOn(d.Name, p.Number) != nil:
		return nil, fmt.Errorf("%s: Device or resource busy", node)
	}
	v.Extents = append(v.Extents, Extent{d.Name, p.Number, p.Sectors()})
	v.Size += vmfsSize(p.Sectors())
	return v, nil
}

// Grow lets a volume use all of a partition that was made larger.
func (m *Machine) Grow(node string) (*Volume, error) {
	d, p, err := m.Node(node)
	if err != nil {
		return nil, err
	}
	v := m.VolumeOn(d.Name, p.Number)
	if v == nil || !v.IsVMFS() {
		return nil, fmt.Errorf("%s: no VMFS volume there", node)
	}
	i := slices.IndexFunc(v.Extents, func(e Extent) bool { return e.Disk == d.Name && e.Partition == p.Number })
	e := &v.Extents[i]
	if p.Sectors() <= e.Sectors {
		return nil, fmt.Errorf("%s: no free space to grow into", node)
	}
	v.Size += vmfsSize(p.Sectors()) - vmfsSize(e.Sectors)
	e.Sectors = p.Sectors()
	return v, nil
}

// VolumeOn returns the volume with that partition; nil if there is none.
func (m *Machine) VolumeOn(disk string, number int) *Volume {
	i := slices.IndexFunc(m.State.Volumes, func(v Volume) bool { return v.on(disk, number) })
	if i < 0 {
		return nil
	}
	return &m.State.Volumes[i]
}

func (v Volume) on(disk string, number int) bool {
	return slices.ContainsFunc(v.Extents, func(e Extent) bool { return e.Disk == disk && e.Partition == number })
}

// IsVMFS reports whether the volume is a datastore: OSDATA is not, although it
// is VMFS inside.
func (v Volume) IsVMFS() bool { return v.Type == "VMFS-6" || v.Type == "VMFS-5" }

// Mount mounts or unmounts a volume. What the system runs from stays.
func (m *Machine) Mount(v *Volume, mounted bool) error {
	if !mounted && !v.IsVMFS() {
		return fmt.Errorf("volume '%s' cannot be unmounted: Device or resource busy", v.Label)
	}
	if v.Unmounted == !mounted {
		return fmt.Errorf("volume '%s' is already %s", v.Label, map[bool]string{true: "mounted", false: "unmounted"}[mounted])
	}
	v.Unmounted = !mounted
	return m.linkVolumes()
}

// Free is the room in a volume, in bytes.
func (v Volume) Free() int64 { return v.Size - v.Used }
