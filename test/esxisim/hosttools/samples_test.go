package main

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

// sample is a file in testdata, the command that printed it, and the host that
// must print the same.
type sample struct {
	file, command string
	hw            host.Hardware
	prepare       func(*host.Machine)
	// tidy is applied to both texts where the publisher changed the form, or
	// where a value follows no public rule.
	tidy func(string) string
}

// trimmed: blanks at the ends of lines were lost on publication.
func trimmed(s string) string {
	return regexp.MustCompile(` +\n`).ReplaceAllString(s+"\n", "\n")
}

// hashed: an NVMe device's vml name is a hash of what is not known.
func hashed(s string) string {
	return trimmed(regexp.MustCompile(`vml\.05[0-9a-f]{64}`).ReplaceAllString(s, "vml.05..."))
}

func checkSamples(t *testing.T, samples []sample) {
	t.Helper()
	for _, s := range samples {
		t.Run(s.file, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + s.file + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			if s.hw.ESXi == "" {
				s.hw.ESXi = "8.0.3"
			}
			s.hw.Name = s.file
			h := newHost(t, s.hw)
			if s.prepare != nil {
				if err := h.Change(s.prepare); err != nil {
					t.Fatal(err)
				}
			}
			got, want := must(t, h, s.command), string(text)
			if s.tidy != nil {
				got, want = s.tidy(got), s.tidy(want)
			}
			if got != want {
				t.Errorf("%s printed\n%s\nwant\n%s", s.command, got, want)
			}
		})
	}
}

func TestVersionSamples(t *testing.T) {
	const get = "esxcli system version get"
	checkSamples(t, []sample{
		{file: "esxcli_system_version_get.6.5.0", command: get, hw: host.Hardware{ESXi: "6.5"}},
		{file: "esxcli_system_version_get.7.0.3", command: get, hw: host.Hardware{ESXi: "7.0U3", Build: "19193900"}},
		{file: "esxcli_system_version_get.8.0.1", command: get, hw: host.Hardware{ESXi: "8.0.1"}},
		{file: "esxcli_system_version_get.8.0.3", command: get, hw: host.Hardware{ESXi: "8.0.3", Build: "24677879"}},
		{file: "esxcli_system_version_get.9.0.0", command: get, hw: host.Hardware{ESXi: "9.0"}},
		{file: "esxcli_json_system_version_get.8.0.3", command: "esxcli --debug --formatter=json system version get", hw: host.Hardware{ESXi: "8.0.3", Build: "25205845"}},
		{file: "vmware_-vl.8.0.3", command: "vmware -vl", hw: host.Hardware{ESXi: "8.0.3", Build: "25205845"}},
	})
}

func TestNetworkSamples(t *testing.T) {
	x540 := []host.NIC{{MAC: "a4:bf:01:4e:37:14"}, {MAC: "a4:bf:01:4e:37:15", Down: true}}
	deployed := func(m *host.Machine) {
		m.State.Switches[0].Portgroups[1].Name = "eno1"
		m.State.Interfaces[0].Portgroup = "eno1"
	}
	two := func(m *host.Machine) {
		w := &m.State.Switches[0]
		w.Portgroups = []host.Portgroup{{Name: "VM_VLAN1"}, {Name: "VM Network"}, {Name: "VM_VLAN3", VLAN: 3, VMs: 1}, {Name: "Management Network"}}
		m.State.Switches = append(m.State.Switches, host.Switch{
			Name: "storage", MTU: 9000, Ports: 1024, Uplinks: []string{"vmnic32"}, Portgroups: []host.Portgroup{{Name: "nfs-for-vm"}, {Name: "iscsi", VMs: 1}},
		})
	}
	vmk := func(change func(*host.Interface)) func(*host.Machine) {
		return func(m *host.Machine) { change(&m.State.Interfaces[0]) }
	}
	address := func(m *host.Machine) {
		m.State.Interfaces[0].IPv4 = host.IPv4{Type: "static", Address: "172.30.30.176", Netmask: "255.255.255.0"}
		m.State.Interfaces[0].IPv6.Enabled = false
		m.State.Routes = []host.Route{{Network: "default", Gateway: "172.30.30.1"}}
	}
	const (
		nicList       = "esxcli network nic list"
		switchList    = "esxcli network vswitch standard list"
		groupList     = "esxcli network vswitch standard portgroup list"
		interfaceList = "esxcli network ip interface list"
	)
	checkSamples(t, []sample{
		{file: "esxcli_network_nic_list.6.7.0", command: nicList, hw: host.Hardware{ESXi: "6.7", NICs: []host.NIC{
			{MAC: "00:25:90:1e:42:50", PCI: "0000:05:00.0", Driver: "igb", Speed: 1000, Description: "Intel Corporation 82576 Gigabit Network Connection"},
			{MAC: "00:25:90:1e:42:51", PCI: "0000:05:00.1", Driver: "igb", Down: true, Description: "Intel Corporation 82576 Gigabit Network Connection"},
		}}},
		{file: "esxcli_network_nic_list.7.0.3", command: nicList, hw: host.Hardware{ESXi: "7.0.3", NICs: []host.NIC{
			{MAC: "3c:ec:ef:05:48:18", PCI: "0000:1c:00.0", Driver: "i40en", Speed: 1000, Description: "Intel(R) Ethernet Connection X722 for 1GbE"},
			{MAC: "3c:ec:ef:05:48:19", PCI: "0000:1c:00.1", Driver: "i40en", Down: true, Description: "Intel(R) Ethernet Connection X722 for 1GbE"},
			{MAC: "b8:ce:f6:dc:74:22", PCI: "0000:5e:00.0", Driver: "nmlx5_core", Description: "Mellanox Technologies ConnectX-4 Lx EN NIC; 25GbE; dual-port SFP28; (MCX4121A-ACA)"},
		}}},
		{file: "esxcli_network_nic_list.9.0.0", command: nicList, hw: host.Hardware{ESXi: "9.0", NICs: []host.NIC{
			{MAC: "00:50:56:b3:b9:89", PCI: "0000:02:01.0", Driver: "nvmxnet3", Description: "VMware Inc. vmxnet3 Virtual Ethernet Controller"},
		}}},
		{file: "esxcli_network_nic_list.maas-deployed", command: nicList, hw: host.Hardware{NICs: x540}},
		{file: "esxcli_network_nic_list.empty.7.0", command: "localcli network nic list", hw: host.Hardware{ESXi: "7.0"}},
		{file: "esxcli_network_vswitch_standard_list.maas-deployed", command: switchList, hw: host.Hardware{NICs: x540}, prepare: deployed},
		{file: "esxcli_network_vswitch_standard_list.two", command: switchList, hw: host.Hardware{ESXi: "6.7", NICs: x540, VSwitchPorts: 2816}, prepare: two},
		{file: "esxcli_network_vswitch_standard_portgroup_list.maas-deployed", command: groupList, prepare: deployed},
		{file: "esxcli_network_vswitch_standard_portgroup_list", command: groupList, prepare: two},
		{file: "esxcli_network_ip_interface_list.6.x-multi", command: interfaceList, hw: host.Hardware{ESXi: "6.7"}, prepare: func(m *host.Machine) {
			v := &m.State.Interfaces[0]
			v.MAC, v.Port = "34:40:b5:b0:08:28", 33554442
			m.State.Interfaces = append(m.State.Interfaces, host.Interface{Name: "vmk2", MAC: "00:50:56:62:76:bd", Portgroup: "VSAN", MTU: 1500, Port: 50331656})
			m.State.Switches = append(m.State.Switches, host.Switch{Name: "vSwitch1", Portgroups: []host.Portgroup{{Name: "VSAN"}}})
		}},
		{file: "esxcli_network_ip_interface_list.7.0", command: interfaceList, hw: host.Hardware{ESXi: "7.0"}, prepare: func(m *host.Machine) {
			v := &m.State.Interfaces[0]
			m.State.Switches[0].Portgroups[1].Name, v.Portgroup = "Management", "Management"
			v.MAC, v.Port = "00:50:56:6c:01:11", 33554443
		}},
		{file: "esxcli_network_ip_interface_list.9.0", command: interfaceList, hw: host.Hardware{ESXi: "9.0"}, prepare: vmk(func(v *host.Interface) {
			v.MAC, v.MTU, v.Port = "00:50:56:9f:78:3b", 9000, 67108875
		})},
		{file: "esxcli_network_ip_interface_ipv4_get", command: "esxcli network ip interface ipv4 get", hw: host.Hardware{ESXi: "9.0"}, prepare: address},
		{file: "esxcli_network_ip_route_ipv4_list.9.0.0", command: "esxcli network ip route ipv4 list", hw: host.Hardware{ESXi: "9.0"}, prepare: address},
		{file: "esxcli_network_ip_dns_search_list.empty", command: "esxcli network ip dns search list"},
		{file: "esxcli_network_ip_dns_search_list", command: "esxcli network ip dns search list", prepare: func(m *host.Machine) {
			m.State.DNS.Search = []string{"localdomain", "intra.rtfmp.com"}
		}},
		{file: "esxcli_network_ip_dns_server_list", command: "esxcli network ip dns server list", prepare: func(m *host.Machine) {
			m.State.DNS.Servers = []string{"192.168.76.2", "8.8.8.8"}
		}},
	})
}

// local is the machine of the samples taken on 8.0.3. Its disks have the
// adapters that the paths name; two disks stand for those left out.
var local = []host.Disk{
	{Linux: "sda", Bus: "sata", Model: "ST20000NM007D-3DJ103", Serial: "ZVTBWXYS", SerialRight: true, Size: 39063650304 * 512, Rotating: true, Revision: "SN03", Adapter: "vmhba2"},
	{Linux: "sdb", Bus: "sata", Model: "Samsung SSD 750 EVO 120GB", Serial: "S3F2NWBHB56997P", Size: 234441648 * 512, Revision: "1B6Q", Adapter: "vmhba3", Boot: true},
	{Linux: "nvme0n1", Bus: "nvme", Model: "WD_BLACK SN850X 4000GB", Serial: "23291H801234", EUI: "001B448B4E519546", Size: 7814037168 * 512, Revision: "624361WD", Adapter: "vmhba0",
		PCI: "100", NQN: "nqn.2018-01.com.wdc:nguid:E8238FA6BF53-0001-001B448B4E519546"},
	{Linux: "nvme1n1", Bus: "nvme", Model: "EO000750KWTXC", Serial: "PHKE018000T8750BGN", EUI: "5cd2e4e335490100", Size: 1465149168 * 512, Revision: "4ICSHPK4", Adapter: "vmhba4", PCI: "d00"},
}

// blocks is the text with its blocks, which blank lines separate, in the order
// of their titles.
func blocks(s string) string {
	all := strings.Split(hashed(strings.TrimSpace(s)), "\n\n")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	slices.Sort(all)
	return strings.Join(all, "\n\n")
}

// without drops the blocks or lines that match.
func without(pattern string, next func(string) string) func(string) string {
	p := regexp.MustCompile(pattern)
	return func(s string) string { return next(p.ReplaceAllString(s, "")) }
}

// sorted is a table in the order of its rows' texts.
func sorted(s string) string {
	lines := strings.Split(trimmed(s), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestDeviceSamples(t *testing.T) {
	samsung := host.Disk{Linux: "sda", Bus: "sata", Model: "INTEL SSDSC2KG019T8", Serial: "PHYG025503H31P9DGN", Revision: "0120", Size: 1831420 << 20}
	vmware := host.Disk{Linux: "sda", Bus: "raid", Vendor: "VMware", Model: "Virtual disk", Revision: "2.0", Size: 40 << 30, Rotating: true}
	checkSamples(t, []sample{
		{file: "esxcli_storage_core_device_list.8.0.3-local", command: "esxcli storage core device list", hw: host.Hardware{Disks: local}, tidy: blocks},
		{file: "esxcli_storage_core_device_list.9.0.0", command: "esxcli storage core device list", hw: host.Hardware{ESXi: "9.0", Disks: []host.Disk{vmware}}},
		// The CD drive is no disk, and further disks are of the same kind.
		{file: "esxcli_storage_core_device_capacity_list.8.0.3", command: "esxcli storage core device capacity list", hw: host.Hardware{Disks: local},
			tidy: without(`(?m)^(mpx|.*ZVTBXN1D|.*ZVTC3WC6|.*243E584E8B441B00).*\n`, sorted)},
		{file: "esxcli_storage_core_device_capacity_list", command: "esxcli storage core device capacity list", hw: host.Hardware{ESXi: "6.7", Disks: []host.Disk{
			{Linux: "sda", Bus: "sas", Model: "ST1000NX0453", WWN: "5000c500b0009813", Size: 1953525168 * 512, Rotating: true},
		}}},
		{file: "esxcli_storage_core_path_list.8.0.3-local", command: "esxcli storage core path list", hw: host.Hardware{Disks: slices.Concat([]host.Disk{
			{Linux: "sdx", Bus: "sata", Model: "left out", Serial: "1", Size: 39063650304 * 512, Adapter: "vmhba2"},
			{Linux: "sdy", Bus: "sata", Model: "left out", Serial: "2", Size: 39063650304 * 512, Adapter: "vmhba2"},
		}, local)}, tidy: without(`(?m)^(usb\.|\S*left_out)(.+\n)*\n?|^   Maximum IO Size: .*\n`, blocks)},
		{file: "esxcli_storage_core_path_list.sas", command: "esxcli storage core path list", hw: host.Hardware{ESXi: "6.5", Disks: []host.Disk{
			{Linux: "sda", Bus: "sas", Vendor: "FUJITSU", Model: "MBB2147RC", WWN: "500000e01947e130", Size: 1 << 37, Adapter: "vmhba2"},
		}}},
		{file: "esxcli_nvme_device_list.8.0.3", command: "esxcli nvme device list", hw: host.Hardware{Disks: slices.Concat(local, []host.Disk{
			{Linux: "nvme2n1", Bus: "nvme", Model: "WD_BLACK SN850X 4000GB", Serial: "23291H805678", Size: 7814037168 * 512, Adapter: "vmhba1"},
		})}},
		{file: "esxcli_nvme_device_get.8.0.3.excerpt", command: "esxcli nvme device get -A vmhba4", hw: host.Hardware{Disks: local},
			tidy: without(`(?m)^   (Controller |Number of|Max Number).*\n`, trimmed)},
		{file: "esxcfg-scsidevs_l.7x-ata", command: "esxcfg-scsidevs -l", hw: host.Hardware{ESXi: "7.0", Disks: []host.Disk{samsung}}},
		{file: "esxcfg-scsidevs_l", command: "esxcfg-scsidevs -l", hw: host.Hardware{ESXi: "6.5", Disks: []host.Disk{
			{Linux: "sda", Bus: "usb", Vendor: "UFD 2.0", Model: "Silicon-Power16G", Revision: "1100", Size: 15384 << 20},
		}}, tidy: trimmed},
	})
}

// TestDeviceJSON: the sample has two of eight disks, with some of their keys.
func TestDeviceJSON(t *testing.T) {
	text, err := os.ReadFile("testdata/esxcli_json_storage_core_device_list.8.0.3.excerpt.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, host.Hardware{Name: "json", ESXi: "8.0.3", Disks: local})
	var want, got []map[string]any
	for s, into := range map[string]*[]map[string]any{
		hashed(string(text)): &want, hashed(must(t, h, "esxcli --debug --formatter=json storage core device list")): &got,
	} {
		if err := json.Unmarshal([]byte(s), into); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(g map[string]any) bool { return g["Device"] == w["Device"] })
		if i < 0 {
			t.Fatalf("no device %v", w["Device"])
		}
		for key, value := range w {
			if !reflect.DeepEqual(got[i][key], value) {
				t.Errorf("%v: %s is %#v, want %#v", w["Device"], key, got[i][key], value)
			}
		}
	}
}

func TestVolumeSamples(t *testing.T) {
	disk := host.Disk{Linux: "sda", Bus: "raid", Vendor: "VMware", Model: "Virtual disk", Size: 40 << 30}
	extent := func(disk string, n int) []host.Extent { return []host.Extent{{Disk: disk, Partition: n}} }
	const x = "XXXXXXXXXXXX"
	eight := []host.Volume{
		{Label: "wdc_6t", UUID: "6314fb31-cbf77190-ea99-" + x, Type: "VMFS-6", Size: 6001143054336, Used: 6001143054336 - 3758807318528, Extents: extent("t10.ATA_____WDC_WD6003FFBX2D68MU3N0__________________XXXXXXXX____________", 1)},
		{Label: "samsung_1t", UUID: "63972d60-cbc9a7ec-9a08-" + x, Type: "VMFS-6", Size: 980594720768, Used: 980594720768 - 979069042688, Extents: extent("t10.ATA_____Samsung_SSD_870_EVO_1TB_________________XXXXXXXXXXXXXXX_____", 8)},
		{Label: "samsung_4t", UUID: "66d056dc-fbc56f2e-6914-" + x, Type: "VMFS-6", Extents: extent("t10.NVMe____Samsung_SSD_990_PRO_with_Heatsink_4TB___XXXXXXXXXXXXXXXX", 1)},
		{Label: "hc550", UUID: "686e51e3-dabd1d5e-a799-" + x, Type: "VMFS-6", Size: 16000900661248, Used: 1, Extents: extent("t10.ATA_____WDC__WUH721816ALE6L4____________________XXXXXXXX____________", 3)},
		{Label: "OSDATA-63972d60-b15becb2-68fc-" + x, UUID: "63972d60-b15becb2-68fc-" + x, Type: "VFFS", Size: 10468982784, Used: 10468982784 - 5367660544, Extents: extent("t10.ATA_____Samsung_SSD_870_EVO_1TB_________________XXXXXXXXXXXXXXX_____", 7)},
		{Label: "BOOTBANK1", UUID: "582ca1fa-f4400e5a-dba6-" + x, Type: "vfat", Size: 4293591040, Used: 4293591040 - 4073783296},
		{Label: "BOOTBANK2", UUID: "b5736b60-d6415986-8198-" + x, Type: "vfat", Size: 4293591040, Used: 4293591040 - 4073848832},
	}
	const osdata = "693975f2-9139b258-8620-005056b3b989"
	nine := func(m *host.Machine) {
		m.State.Volumes = []host.Volume{
			{Label: "OSDATA-" + osdata, UUID: osdata, Type: m.State.Volumes[2].Type, Size: 34091302912, Used: 34091302912 - 32238469120, Extents: m.State.Volumes[2].Extents},
			{Label: "BOOTBANK1", UUID: "5f8b4c97-234dcc30-d982-54ea7418ec3f", Type: "vfat", Size: m.State.Volumes[0].Size, Used: 4293591040 - 3975413760},
			{Label: "BOOTBANK2", UUID: "b0d2f180-db4e3ca9-89bd-55f15a49be2a", Type: "vfat", Size: m.State.Volumes[1].Size, Used: 4293591040 - 4293525504},
		}
	}
	const fsList, extentList = "esxcli storage filesystem list", "esxcli storage vmfs extent list"
	checkSamples(t, []sample{
		{file: "esxcli_storage_filesystem_list.8.0", command: fsList, prepare: func(m *host.Machine) { m.State.Volumes = eight },
			tidy: without(`(?m)^.* (samsung_4t|hc550) .*\n`, trimmed)},
		{file: "esxcli_storage_filesystem_list.9.0.0", command: fsList, hw: host.Hardware{ESXi: "9.0", Disks: []host.Disk{disk}}, prepare: nine},
		{file: "esxcli_storage_vmfs_extent_list.8.0", command: extentList, prepare: func(m *host.Machine) { m.State.Volumes = eight }},
		{file: "esxcli_storage_vmfs_extent_list.9.0.0-no-datastore", command: extentList, hw: host.Hardware{ESXi: "9.0", Disks: []host.Disk{disk}}, prepare: nine},
		{file: "esxcli_storage_vmfs_extent_list.6.x", command: extentList, hw: host.Hardware{ESXi: "6.7"}, prepare: func(m *host.Machine) {
			m.State.Volumes = []host.Volume{{Label: "VMs", UUID: "5bc7459f-967eeb48-b3f7-20677cd9a16c", Type: "VMFS-6", Extents: extent("naa.600508b1001cf76cb54a0dec4acc6459", 3)}}
		}},
	})
}

func tableOf(m *host.Machine, device string) *host.Table {
	i := slices.IndexFunc(m.State.Disks, func(d host.DiskState) bool { return d.Name == device })
	return &m.State.Disks[i].Table
}

func TestPartedUtilSamples(t *testing.T) {
	// A disk with the partitions of the sample itself.
	table := func(file, esxi string, sectors int64) sample {
		s := sample{file: "partedUtil_getptbl." + file, command: "partedUtil getptbl /vmfs/devices/disks/naa.1", tidy: trimmed}
		d := host.Disk{Linux: "sda", Bus: "raid", WWN: "1", Size: sectors * 512}
		s.hw = host.Hardware{ESXi: esxi, Disks: []host.Disk{{Linux: "sdz", Bus: "usb", Size: 64 << 30, Boot: true}, d}}
		s.prepare = func(m *host.Machine) {
			text, err := os.ReadFile("testdata/" + s.file + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			var parts []host.Partition
			for line := range strings.Lines(string(text)) {
				if p, err := parse(strings.Join(slices.Delete(append(strings.Fields(line), "", "", "", "", ""), 4, 5), " ")); err == nil {
					parts = append(parts, p)
				}
			}
			*tableOf(m, "naa.1") = host.Table{Label: strings.Fields(string(text))[0], Backup: sectors - 1, Partitions: parts}
		}
		return s
	}
	sized := func(sectors int64, damaged bool) (host.Hardware, func(*host.Machine)) {
		d := host.Disk{Linux: "sda", Bus: "raid", WWN: "600144f0e8cb470000005053b9b50001", Size: sectors * 512}
		hw := host.Hardware{ESXi: "6.5", Disks: []host.Disk{{Linux: "sdz", Bus: "usb", Size: 64 << 30, Boot: true}, d}}
		return hw, func(m *host.Machine) {
			*tableOf(m, "naa.600144f0e8cb470000005053b9b50001") = host.Table{Label: "gpt", Backup: sectors - 1, Damaged: damaged, Partitions: []host.Partition{
				{Number: 1, First: 2048, Last: 20964824, Type: "AA31E02A-400F-11DB-9590-000C2911D1B8"},
			}}
		}
	}
	broken, damage := sized(20971520, true)
	usable, label := sized(2343043072, false)
	const device = " /vmfs/devices/disks/naa.600144f0e8cb470000005053b9b50001"
	checkSamples(t, []sample{
		table("6.x-1TB", "6.7", 1953525168), table("6.x-small", "6.5", 16777216), table("6.x-usb-no-vmfs", "6.7", 30842880),
		table("7plus-default-128GB", "7.0", 2343043072), table("7plus-small-disk-1GiB-bootbanks", "8.0", 314572800),
		table("7plus-usb-no-osdata", "8.0", 500118192), table("blank", "8.0", 937703088),
		{file: "partedUtil_getUsableSectors", command: "partedUtil getUsableSectors" + device, hw: usable, prepare: label},
		{file: "partedUtil_fix.non-interactive", command: "partedUtil fix" + device, hw: broken, prepare: damage},
	})
	t.Run("fixGpt", func(t *testing.T) {
		text, err := os.ReadFile("testdata/partedUtil_fixGpt.txt")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer("(Y/N): Y", "(Y/N): ", "Cancel? Fix", "Cancel? ").Replace(string(text))
		h := newHost(t, broken)
		if err := h.Change(damage); err != nil {
			t.Fatal(err)
		}
		exit, got := call(t, h, "partedUtil fixGpt"+device, "Y\nFix\n")
		if exit != 0 || strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("exit status %d, printed\n%s\nwant\n%s", exit, got, want)
		}
		if state(t, h).Disks[0].Table.Damaged {
			t.Error("it is still damaged")
		}
	})
	t.Run("setptbl", func(t *testing.T) {
		want, err := os.ReadFile("testdata/partedUtil_setptbl.txt")
		if err != nil {
			t.Fatal(err)
		}
		line := "partedUtil setptbl /vmfs/devices/disks/naa.1 gpt"
		for _, p := range strings.Split(strings.TrimSpace(string(want)), "\n")[2:] {
			line += ` "` + p + `"`
		}
		h := newHost(t, host.Hardware{Name: "x", ESXi: "7.0", Disks: []host.Disk{{Linux: "sdz", Bus: "usb", Size: 64 << 30}, {Linux: "sda", Bus: "raid", WWN: "1", Size: 976773168 * 512}}})
		if got := must(t, h, line); got != string(want) {
			t.Errorf("printed\n%s\nwant\n%s", got, want)
		}
	})
}

func TestVmkfstoolsSample(t *testing.T) {
	want, err := os.ReadFile("testdata/vmkfstools_createfs.vmfs5.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, host.Hardware{Name: "x", ESXi: "6.5", Disks: []host.Disk{
		{Linux: "sda", Bus: "sata", Model: "boot", Size: 64 << 30},
		{Linux: "sdb", Bus: "usb", Size: 64 << 30, Partitions: []host.Partition{{Number: 10, First: 2048, Last: 60 << 21, Type: "AA31E02A-400F-11DB-9590-000C2911D1B8"}}},
	}})
	if got := must(t, h, "vmkfstools -C vmfs5 -S USB.1 /dev/disks/mpx.vmhba32:C0:T0:L0:10"); !strings.HasPrefix(got, string(want)) {
		t.Errorf("printed\n%s\nwant it to start with\n%s", got, want)
	}
}
