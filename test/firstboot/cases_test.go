package firstboot

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
)

// A machine is a case of the matrix: what is deployed, with a configuration of
// MAAS's that has its name or the one in config. Disks are in PCI order, which
// is ESXi's; Linux's names are often in another.
type machine struct {
	name   string
	about  string // for docs/deployed-host.md
	config string
	disks  []host.Disk
	change func(d *deployment) // what is special about it; may be nil
}

var machines = []machine{
	// Those of the sample configurations.
	{name: "a-dhcp-single-nic", about: "DHCP; boot disk NVMe, known to MAAS by its path", disks: []host.Disk{
		{Linux: "nvme0n1", Bus: "nvme", Model: "SAMSUNG MZVLB480", Serial: "S4EMNX0R1", EUI: "0025388a01b2c3d4", Size: 480103981056},
	}},
	{name: "b-bond-vlans-static", about: "802.3ad bond with tagged VLANs and an alias, VMFS7 layout", disks: []host.Disk{
		{Linux: "sda", Bus: "sata", Model: "SAMSUNG MZ7LH960", Serial: "S45NEX0N100001", Size: 960197124096},
		{Linux: "sdb", Bus: "sata", Model: "SAMSUNG MZ7L31T9", Serial: "S6ESNE0T200002", Size: 1920383410176},
	}},
	{name: "c-vmfs6-extra-disks", about: "VMFS6 layout, a datastore over two disks, one on a third", disks: []host.Disk{
		{Linux: "sdc", Bus: "sata", Model: "ST4000NM0035-1V4107", Serial: "ZC100002", SerialRight: true, Rotating: true, Size: 4000787030016},
		{Linux: "sda", Bus: "sata", Model: "INTEL SSDSC2KB240G8", Serial: "BTYF00000001240AGN", Size: 240057409536, Boot: true},
		{Linux: "sdb", Bus: "sata", Model: "ST4000NM0035-1V4107", Serial: "ZC100001", SerialRight: true, Rotating: true, Size: 4000787030016},
	}},
	{name: "c2-vmfs7-bios-extra-disk", about: "VMFS7 layout on a BIOS machine: data partition 2; DHCPv6", disks: []host.Disk{
		{Linux: "sda", Bus: "raid", Vendor: "DELL", Model: "PERC H730 Mini", Serial: "00aa", WWN: "6d0946606ab1230027a1b2c30d11aa01", Size: 479559942144},
		{Linux: "sdb", Bus: "raid", Vendor: "DELL", Model: "PERC H730 Mini", Serial: "00bb", WWN: "6d0946606ab1230027a1b2c30d11aa02", Size: 1919850381312},
	}},
	{name: "d-flat-default", about: "flat layout, so that datastore1 fills the boot disk; IPv4 and IPv6", disks: []host.Disk{
		{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00001", Size: 68719476736},
	}},
	{name: "d2-flat-bios", about: "flat layout on a BIOS machine, DHCP for both families", disks: []host.Disk{
		{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00002", Size: 68719476736},
	}},
	{name: "e-bond-active-backup-ipv6-routes", about: "active-backup bond, IPv6, routes, aliases on a VLAN", disks: []host.Disk{
		{Linux: "sda", Bus: "sas", Vendor: "SAMSUNG", Model: "MZILT800HBHQ0D3", Serial: "S5G1NE0R300007", WWN: "5002538b1234a5b0", Size: 800166076416},
	}},
	{name: "f-unsupported", about: "balance-tlb bond, bridge, LVM", disks: []host.Disk{
		{Linux: "sda", Bus: "sata", Model: "INTEL SSDSC2KG240G8", Serial: "PHYG00000002240AGN", Size: 240057409536},
	}},
	{name: "g-nvme-two-disks-no-serial", about: "two NVMe drives without serial numbers, a datastore over both", disks: []host.Disk{
		{Linux: "nvme1n1", Bus: "nvme", Model: "INTEL SSDPE2KX040T8", EUI: "5cd2e42a81a50002", Size: 3840755982336},
		{Linux: "nvme0n1", Bus: "nvme", Model: "INTEL SSDPE2KX016T8", EUI: "5cd2e42a81a50001", Size: 1600321314816, Boot: true},
	}},

	// Disks.
	{name: "nvme-ten-drives", about: "ten NVMe drives: named by EUI-64, NGUID or serial number", disks: tenDrives()},
	{name: "sas-disks", about: "SAS disks, whose serial numbers are not in ESXi's names", disks: []host.Disk{
		{Linux: "sdc", Bus: "sas", Vendor: "SEAGATE", Model: "ST1200MM0099", Serial: "WFK10003", WWN: "5000c500a0000003", Rotating: true, Size: 1200243695616},
		{Linux: "sdb", Bus: "sas", Vendor: "SEAGATE", Model: "ST1200MM0099", Serial: "WFK10002", WWN: "5000c500a0000002", Rotating: true, Size: 1200243695616},
		{Linux: "sda", Bus: "sas", Vendor: "SEAGATE", Model: "ST300MM0048", Serial: "WBN00001", WWN: "5000c500a0000001", Rotating: true, Size: 300000000000, Boot: true},
	}},
	{name: "raid-volumes", about: "two volumes of a RAID controller", disks: []host.Disk{
		{Linux: "sdb", Bus: "raid", Vendor: "HPE", Model: "LOGICAL VOLUME", Serial: "PEYHC0ARH9A00B", WWN: "600508b1001c9f8e7d6c5b4a39281706", Size: 7680910229504},
		{Linux: "sda", Bus: "raid", Vendor: "HPE", Model: "LOGICAL VOLUME", Serial: "PEYHC0ARH9A00B", WWN: "600508b1001c1a2b3c4d5e6f708192a3", Size: 479559942144, Boot: true},
	}},
	{name: "ata-samsung-seagate", about: "SATA names: small letters, padding on either side, a dash", disks: []host.Disk{
		{Linux: "sdb", Bus: "sata", Model: "ST4000NM0035-1V4107", Serial: "ZC17ABCD", SerialRight: true, Rotating: true, Size: 4000787030016},
		{Linux: "sdc", Bus: "sata", Model: "WDC WD40EFRX-68N32N0", Serial: "WD-WCC7K0123456", SerialRight: true, Rotating: true, Size: 4000787030016},
		{Linux: "sda", Bus: "sata", Model: "Samsung SSD 870 EVO 1TB", Serial: "S6PTNM0T100001A", Size: 1000204886016, Boot: true},
	}},
	{name: "disks-without-serials", about: "disks without any identity, flat layout", disks: anonymous()},
	{name: "usb-stick", about: "boot disk on USB, which gets no datastore", config: "d-flat-default", disks: []host.Disk{
		{Linux: "sda", Bus: "usb", Vendor: "SanDisk", Model: "Ultra Fit", Serial: "QM00001", Size: 68719476736},
		{Linux: "sdb", Bus: "sata", Model: "INTEL SSDSC2KB240G8", Serial: "BTYF00000014240AGN", Size: 240057409536},
	}},
	{name: "datastore-on-disk-without-serial", about: "a datastore on a disk without any identity", disks: anonymous()},
	{name: "boot-disk-last", about: "a datastore over three disks, of which the boot disk is the last by name", disks: []host.Disk{
		{Linux: "sda", Bus: "sata", Model: "ST4000NM0035-1V4107", Serial: "ZC300001", SerialRight: true, Rotating: true, Size: 4000787030016},
		{Linux: "sdb", Bus: "sata", Model: "ST4000NM0035-1V4107", Serial: "ZC300002", SerialRight: true, Rotating: true, Size: 4000787030016},
		{Linux: "sdc", Bus: "sata", Model: "INTEL SSDSC2KB240G8", Serial: "BTYF00000011240AGN", Size: 240057409536, Boot: true},
	}},
	{name: "two-datastores-on-boot-disk", about: "two datastores on the boot disk, a blank in a name", disks: []host.Disk{
		{Linux: "nvme0n1", Bus: "nvme", Model: "SAMSUNG MZVLB1T0HALR-00000", Serial: "S3W6NX0M400001", EUI: "002538840000a1b2", Size: 1024209543168},
	}},

	// Networks.
	{name: "twelve-nics", about: "twelve NICs, in another order than on Linux: two bonds, storage networks, free ones", disks: intel("3f0a9bb6c2f20010"), change: shuffleNICs},
	{name: "jumbo-frames", about: "MTU 9000 on an interface, and on one VLAN of two", disks: intel("BTYF00000007240AGN")},
	{name: "ipv6-only", about: "IPv6 only", disks: intel("BTYF00000008240AGN"), change: func(d *deployment) { d.maasAt = "2001:db8:40::2" }},
	{name: "bond-vlans", about: "balance-rr bond, management on a VLAN, a VLAN for VMs", disks: intel("BTYF00000009240AGN")},
	{name: "bond-of-vlans", about: "a bond of VLAN interfaces", disks: intel("BTYF00000010240AGN")},
	{name: "two-subnets", about: "two subnets and an alias on one interface, a route repeated", disks: intel("BTYF00000013240AGN")},
	{name: "vswitch-names", about: "vSwitches named with -, . and blanks hold the NICs already", disks: intel("BTYF00000012240AGN"), change: func(d *deployment) { d.prepare = oddSwitches }},
	{name: "wrong-mac", about: "a NIC that MAAS does not know", config: "d-flat-default", disks: intel("QM00001"), change: func(d *deployment) {
		d.hardware.NICs[0].MAC = "02:00:5e:99:00:01"
	}},

	{name: "unsupported-with-warnings", about: "balance-tlb bond, bridge, LVM, with `unsupported = \"warn\"`", config: "f-unsupported", disks: intel("PHYG00000002240AGN"),
		change: func(d *deployment) { d.ignored = []string{"mode balance-tlb of bond bond0", "bridge br0"} }},

	// MAAS.
	{name: "maas-late", about: "MAAS does not answer at first", config: "d-flat-default", disks: intel("QM00001"), change: func(d *deployment) { d.refused = 1 }},
	{name: "vendor-data", about: "NTP servers in vendor-data", config: "d-flat-default", disks: intel("QM00001"), change: func(d *deployment) {
		d.maas.VendorData = "cloud-init: \"#cloud-config\\nntp:\\n  pools:\\n  - ntp.example\\n  servers:\\n  - 10.40.0.2\\n\"\n"
	}},
	{name: "vendor-data-broken", about: "vendor-data that is no YAML", config: "d-flat-default", disks: intel("QM00001"), change: func(d *deployment) {
		d.maas.VendorData = "cloud-init: \"#cloud-config\\nntp:\\n  servers: [10.40.0.2\\n\"\n"
	}},
	{name: "vcenter-down", about: "vCenter does not answer", config: "d-flat-default", disks: intel("QM00001"), change: func(d *deployment) {
		d.maas.VendorData = "cloud-init: \"#cloud-config\\nwrite_files:\\n- content: 'vcenter_datacenter: DC1\\n\\n    vcenter_password: " + secret +
			"\\n\\n    vcenter_server: 127.0.0.1\\n\\n    vcenter_username: joiner@vsphere.local\\n\\n    '\\n  path: /altbootbank/maas/vcenter.yaml\\n\"\n"
		d.edits = []string{"vcenter.py", "PATIENCE = 5 * 60 ", "PATIENCE = 0 "}
	}},
}

// tenDrives: ESXi numbers the controllers the other way round, and not every
// drive has an EUI-64.
func tenDrives() []host.Disk {
	var disks []host.Disk
	for n := 9; n > 0; n-- {
		d := host.Disk{Linux: fmt.Sprintf("nvme%dn1", n), Bus: "nvme", Model: "INTEL SSDPE2KX040T8", Serial: fmt.Sprintf("PHLJ0000%04d4P0DGN", n), Size: 3840755982336}
		switch {
		case n < 4:
			d.EUI = fmt.Sprintf("5cd2e4000000%04d", n)
		case n < 7:
			d.NGUID = fmt.Sprintf("01000000%04d00005cd2e40000000000", n)
		default:
			d.Model, d.Serial = "MTFDHBA3T8TDF", fmt.Sprintf("2041%08d", n)
		}
		disks = append(disks, d)
	}
	return append(disks, host.Disk{Linux: "nvme0n1", Bus: "nvme", Model: "SAMSUNG MZQL2960HCJR-00A07", Serial: "S64FNE0R100000", EUI: "0025384500000001", Size: 960197124096, Boot: true})
}

// anonymous disks have nothing that ESXi could make a name of.
func anonymous() []host.Disk {
	return []host.Disk{
		{Linux: "sda", Bus: "sata", Model: "Virtual Disk", ESXi: "mpx.vmhba0:C0:T0:L0", Size: 128035676160},
		{Linux: "sdb", Bus: "sata", Model: "Virtual Disk", ESXi: "mpx.vmhba0:C0:T1:L0", Size: 2000398934016},
	}
}

// intel is a boot disk of which nothing is special.
func intel(serial string) []host.Disk {
	return []host.Disk{{Linux: "sda", Bus: "sata", Model: "INTEL SSDSC2KB240G8", Serial: serial, Size: 240057409536}}
}

// shuffleNICs has ESXi find the six ports of the last card first.
func shuffleNICs(d *deployment) {
	nics := d.hardware.NICs
	d.hardware.NICs = slices.Concat(nics[6:], nics[:6])
}

// oddSwitches are left on a host by whoever made its image.
func oddSwitches(h *host.Host) error {
	for i, name := range []string{"vSwitch-iSCSI", "my switch", "dvs.old"} {
		add := [][]string{{"add", "-v", name}, {"uplink", "add", "-v", name, "-u", fmt.Sprintf("vmnic%d", i+1)}, {"portgroup", "add", "-v", name, "-p", "on " + name}}
		for _, command := range add {
			if _, err := h.Esxcli(context.Background(), append([]string{"network", "vswitch", "standard"}, command...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusing drops the first connections to a server.
type refusing struct {
	net.Listener
	left atomic.Int32
}

func (l *refusing) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.left.Add(-1) < 0 {
			return c, err
		}
		c.Close()
	}
}

// start is the deployment of a machine with an ESXi version.
func start(t *testing.T, name, version string) *deployment {
	t.Helper()
	i := slices.IndexFunc(machines, func(m machine) bool { return m.name == name })
	if i < 0 {
		t.Fatalf("there is no machine %s", name)
	}
	m := machines[i]
	if m.config == "" {
		m.config = name
	}
	c := load(t, m.config, version)
	hw := host.Hardware{Name: name, ESXi: version, NICs: c.nics(), Disks: slices.Clone(m.disks)}
	d := &deployment{t: t, hardware: hw, config: c, maasAt: "10.40.0.2", maas: maassim.Machine{PublicKeys: []string{rsaKey, edKey}}}
	if m.change != nil {
		m.change(d)
	}
	return d
}

// findConfig returns the file of a configuration: a sample, or one of testdata/curtin,
// where NAME@6 is for versions up to 6.7 and NAME@7 for later ones, which have
// another storage layout.
func findConfig(name, version string) string {
	layout := "7"
	if strings.HasPrefix(version, "6.") {
		layout = "6"
	}
	for _, path := range []string{filepath.Join("testdata/curtin", name+"@"+layout+".json"), filepath.Join("testdata/curtin", name+".json")} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(configs, name+".json")
}

// The configurations could be MAAS's: their partitions fit on the machines' disks.
func TestLayoutsAreRealistic(t *testing.T) {
	t.Parallel()
	for _, m := range machines {
		for _, version := range []string{"6.7", "8.0.3"} {
			d := start(t, m.name, version)
			hasRoom(t, m, d.config)
		}
	}
}

// hasRoom checks that MAAS's partitions fit on the disks of a machine, and that
// each disk of the configuration is there.
func hasRoom(t *testing.T, m machine, c config) {
	t.Helper()
	used := map[string]int64{}
	for _, e := range c.Storage.Config {
		var size int64
		switch e["type"] {
		case "disk":
			used[e["id"].(string)] += 0
		case "partition":
			if _, err := fmt.Sscanf(e["size"].(string), "%dB", &size); err != nil {
				t.Fatal(err)
			}
			used[e["device"].(string)] += size
		}
	}
	for id, bytes := range used {
		i := slices.IndexFunc(m.disks, func(d host.Disk) bool { return d.Linux == id })
		if i < 0 || m.disks[i].Size < bytes+5<<20 {
			t.Errorf("%s: MAAS has %d bytes on %s, which is too small or missing", m.name, bytes, id)
		}
	}
}
