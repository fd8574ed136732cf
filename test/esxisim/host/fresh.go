package host

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/esxid/esxid/test/esxisim"
)

// What all hosts deployed from one image have in common.
const (
	buildMAC  = "52:54:00:e5:1d:01" // of the machine it was installed on
	imageSize = 32 << 30            // bytes of that machine's disk
)

// install makes the state of a host that boots from an image for the first
// time, and its files.
func (m *Machine) install() error {
	m.Runtime = &Runtime{BootedMS: m.Now.UnixMilli(), HostdMS: m.Now.UnixMilli(), LeasesMS: map[string]int64{"vmk0": m.Now.UnixMilli()}, Faults: map[string]int{}}
	image := func(what string) [32]byte { return sha256.Sum256([]byte(m.Release.Profile + what)) }
	s := &State{
		Version: m.Version(), Build: m.Release.Build,
		Hostname: "localhost", Domain: "localdomain",
		UUID:        uuidText(image("system"), strings.ReplaceAll(buildMAC, ":", "")),
		Certificate: Certificate{CommonName: "localhost.localdomain"},
		DNS:         DNS{Servers: []string{}, Search: []string{}},
		NTP:         NTP{Servers: []string{}},
		Routes:      []Route{},
		Firewall:    Firewall{Enabled: true},
		Volumes:     []Volume{},
		Users: []User{
			{Name: "root", Description: "Administrator", Role: "Admin", Shell: true},
			{Name: "dcui", Description: "DCUI User", Role: "Admin"},
		},
		Settings: map[string]string{},
	}
	for _, name := range services {
		running := name == "hostd" || name == "DCUI" || name == "vmsyslogd" || name == "rhttpproxy"
		s.Services = append(s.Services, Service{Name: name, Running: running, OnBoot: running})
	}
	m.State = s
	m.installNetwork()
	for i := range m.Devices {
		if err := m.installDisk(&m.Devices[i], image); err != nil {
			return fmt.Errorf("disk %s: %w", m.Devices[i].Linux, err)
		}
	}
	return m.writeFiles()
}

// Version is the release as ESXi names it: three numbers.
func (m *Machine) Version() string {
	return strings.Join(strings.SplitN(m.Release.Version, ".", 4)[:3], ".")
}

// installNetwork is what every installation starts with.
func (m *Machine) installNetwork() {
	w := Switch{
		Name: "vSwitch0", MTU: 1500, Ports: 128, Uplinks: []string{}, Teaming: Teaming{LoadBalancing: "portid", Active: []string{}},
		Portgroups: []Portgroup{{Name: "VM Network"}, {Name: "Management Network"}},
	}
	if len(m.Hardware.NICs) > 0 {
		w.Uplinks, w.Teaming.Active = []string{"vmnic0"}, []string{"vmnic0"}
	}
	m.State.Switches = []Switch{w}
	m.State.Interfaces = []Interface{{
		Name: "vmk0", Portgroup: "Management Network", MAC: buildMAC, MTU: 1500, Tags: []string{"Management"}, Port: 33554438,
		IPv4: IPv4{Type: "dhcp", PeerDNS: true},
		IPv6: IPv6{Enabled: true, RouterAdvertise: true, Addresses: []string{}},
	}}
}

// installDisk gives a disk its partition table and its file systems.
func (m *Machine) installDisk(d *Device, image func(string) [32]byte) error {
	state := DiskState{Name: d.Name, Linux: d.Linux, Table: Table{Label: "unknown"}}
	if len(d.Partitions) > 0 {
		state.Table = Table{Label: "gpt", Backup: d.Sectors() - 1, Partitions: d.Partitions}
	}
	if d.Boot {
		layout, err := m.Release.Layout(imageSize, esxisim.LayoutOptions{MediaSize: "min", NoVMFS: true})
		if err != nil {
			return err
		}
		// The hook of the deployment has moved the backup to the end of the disk.
		state.Table = Table{Label: "gpt", Backup: d.Sectors() - 1, Partitions: append(fromLayout(layout), d.Partitions...)}
		sortBySector(state.Table.Partitions)
	}
	m.State.Disks = append(m.State.Disks, state)
	t, err := m.Table(d) // that of the image, if there is one
	if err != nil {
		return err
	}
	for _, p := range t.Partitions {
		if d.Boot {
			m.installVolume(d, p, image)
		}
		if p.Type == esxisim.TypeVMFS {
			if err := m.findVolume(d, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// installVolume adds the file system that is on a partition of the system.
func (m *Machine) installVolume(d *Device, p Partition, image func(string) [32]byte) {
	if p.Type != esxisim.TypeFAT && p.Type != esxisim.TypeOSData {
		return
	}
	mac := strings.ReplaceAll(buildMAC, ":", "")
	v := Volume{
		UUID: volumeUUID(image(fmt.Sprint("partition ", p.Number)), mac), Type: "vfat", Size: fatSizes[p.Sectors()],
		Extents: []Extent{{d.Name, p.Number, p.Sectors()}},
	}
	switch {
	case p.Type == esxisim.TypeOSData:
		v.Type, v.Label, v.Size = m.osDataType(), "OSDATA-"+v.UUID, vmfsSize(p.Sectors())
		v.Used = 1700 << 20
	case m.AtLeast(7):
		v.Label = fmt.Sprintf("BOOTBANK%d", p.Number-4)
		v.Used = 200 << 20 * int64(6-p.Number)
	}
	m.State.Volumes = append(m.State.Volumes, v)
}

// fatSizes are the bytes that the FAT file systems of an installation have, by
// the sectors of their partitions.
var fatSizes = map[int64]int64{511968: 261853184, 585696: 299712512, 8386560: 4293591040}

// osDataType: the versions name the same thing differently.
func (m *Machine) osDataType() string {
	switch {
	case m.AtLeast(9):
		return "VMFSOS"
	case m.AtLeast(8):
		return "VFFS"
	}
	return "VMFS-L"
}

// Uptime is the time since the boot.
func (m *Machine) Uptime() time.Duration { return m.Now.Sub(time.UnixMilli(m.Runtime.BootedMS)) }
