package host

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestDeviceNames: names as they were seen on real hosts.
func TestDeviceNames(t *testing.T) {
	for _, c := range []struct {
		disk Disk
		name string
	}{
		{Disk{Bus: "sata", Model: "ST20000NM007D-3DJ103", Serial: "ZVTBWXYS", SerialRight: true}, "t10.ATA_____ST20000NM007D2D3DJ103________________________________ZVTBWXYS"},
		{Disk{Bus: "sata", Model: "Samsung SSD 750 EVO 120GB", Serial: "S3F2NWBHB56997P"}, "t10.ATA_____Samsung_SSD_750_EVO_120GB_______________S3F2NWBHB56997P_____"},
		{Disk{Bus: "sata", Model: "INTEL SSDSC2KG019T8", Serial: "PHYG025503H31P9DGN"}, "t10.ATA_____INTEL_SSDSC2KG019T8_____________________PHYG025503H31P9DGN__"},
		{Disk{Bus: "nvme", Model: "WD_BLACK SN850X 4000GB", EUI: "001b448b4e519546"}, "t10.NVMe____WD_BLACK_SN850X_4000GB__________________4695514E8B441B00"},
		{Disk{Bus: "nvme", Model: "KXG5AZNV512G TOSHIBA", EUI: "00080d020055f877"}, "t10.NVMe____KXG5AZNV512G_TOSHIBA____________________77F85500020D0800"},
		{Disk{Bus: "nvme", Model: "x", NGUID: "E8238FA6BF530001001B448B4E519546"}, "eui.e8238fa6bf530001001b448b4e519546"},
		{Disk{Bus: "nvme", Model: "INTEL SSDPEDMD400G4", Serial: "CVFT4174002C400BGN"}, "t10.NVMe____INTEL_SSDPEDMD400G4_____________________CVFT4174002C400BGN__00000001"},
		{Disk{Bus: "sas", Model: "MBB2147RC", Serial: "x", WWN: "500000e01947e130"}, "naa.500000e01947e130"},
		{Disk{Bus: "raid", Model: "PERC H730 Mini", WWN: "6D0946606ab1230027a1b2c30d11aa01"}, "naa.6d0946606ab1230027a1b2c30d11aa01"},
		{Disk{Bus: "usb", Model: "stick", Serial: "1"}, "mpx.vmhba32:C0:T0:L0"},
		{Disk{Bus: "raid", Model: "Virtual disk"}, "mpx.vmhba0:C0:T0:L0"},
	} {
		hw := Hardware{Disks: []Disk{c.disk}}
		if got := hw.Devices()[0].Name; got != c.name {
			t.Errorf("%+v\nis   %s\nwant %s", c.disk, got, c.name)
		}
	}
}

// TestOrders: Linux and ESXi count the same disks differently.
func TestOrders(t *testing.T) {
	hw := Hardware{Disks: []Disk{
		{Linux: "nvme1n1", Bus: "nvme", Model: "a", EUI: "0000000000000001"}, {Linux: "nvme0n1", Bus: "nvme", Model: "a", EUI: "0000000000000002"},
		{Linux: "sdb", Bus: "sata", Model: "b"}, {Linux: "sdc", Bus: "usb"}, {Linux: "sda", Bus: "sata", Model: "b"},
	}}
	var esxi, linux []string
	for _, d := range hw.Devices() {
		esxi = append(esxi, d.RuntimeName()+" "+d.Linux)
	}
	for _, d := range hw.LinuxDisks() {
		linux = append(linux, d.Name)
	}
	if want := []string{"vmhba0:C0:T0:L0 nvme1n1", "vmhba1:C0:T0:L0 nvme0n1", "vmhba2:C0:T0:L0 sdb", "vmhba2:C0:T1:L0 sda", "vmhba32:C0:T0:L0 sdc"}; !reflect.DeepEqual(esxi, want) {
		t.Errorf("ESXi: %v", esxi)
	}
	if want := []string{"nvme0n1", "nvme1n1", "sda", "sdb", "sdc"}; !reflect.DeepEqual(linux, want) {
		t.Errorf("Linux: %v", linux)
	}
}

func TestLinuxDisks(t *testing.T) {
	hw := Hardware{Disks: []Disk{
		{Linux: "nvme0n1", Bus: "nvme", Model: "WD_BLACK SN850X 4000GB", Serial: "23", EUI: "001B448B4E519546", Size: 1 << 40},
		{Linux: "sda", Bus: "sata", Model: "Samsung SSD 750 EVO 120GB", Serial: "S3F2NWBHB56997P", WWN: "5002538d700aabbc", Size: 1 << 37},
		{Linux: "sdb", Bus: "raid", Vendor: "HP", Model: "LOGICAL VOLUME", Serial: "PDNLH0BRH", WWN: "600508b1001cf76cb54a0dec4acc6459", Size: 1 << 38},
	}}
	want := []LinuxDisk{
		{Name: "nvme0n1", Path: "/dev/nvme0n1", Size: 1 << 40, BlockSize: 512, Model: "WD_BLACK SN850X 4000GB", Serial: "23", WWID: "eui.001b448b4e519546", EUI: "001b448b4e519546",
			Udev: map[string]string{"ID_SERIAL": "WD_BLACK_SN850X_4000GB_23", "ID_SERIAL_SHORT": "23", "ID_WWN": "eui.001b448b4e519546"},
			ByID: []string{"nvme-WD_BLACK_SN850X_4000GB_23", "nvme-eui.001b448b4e519546"}},
		{Name: "sda", Path: "/dev/sda", Size: 1 << 37, BlockSize: 512, Model: "Samsung SSD 750", Serial: "S3F2NWBHB56997P", WWID: "naa.5002538d700aabbc",
			Udev: map[string]string{"ID_SERIAL": "Samsung_SSD_750_EVO_120GB_S3F2NWBHB56997P", "ID_SERIAL_SHORT": "S3F2NWBHB56997P", "ID_WWN": "0x5002538d700aabbc", "ID_WWN_WITH_EXTENSION": "0x5002538d700aabbc"},
			ByID: []string{"ata-Samsung_SSD_750_EVO_120GB_S3F2NWBHB56997P", "wwn-0x5002538d700aabbc"}},
		{Name: "sdb", Path: "/dev/sdb", Size: 1 << 38, BlockSize: 512, Model: "LOGICAL VOLUME", Serial: "PDNLH0BRH", WWID: "naa.600508b1001cf76cb54a0dec4acc6459",
			Udev: map[string]string{"ID_SERIAL": "3600508b1001cf76cb54a0dec4acc6459", "ID_SERIAL_SHORT": "600508b1001cf76cb54a0dec4acc6459", "ID_SCSI_SERIAL": "PDNLH0BRH",
				"ID_WWN": "0x600508b1001cf76c", "ID_WWN_WITH_EXTENSION": "0x600508b1001cf76cb54a0dec4acc6459"},
			ByID: []string{"scsi-3600508b1001cf76cb54a0dec4acc6459", "wwn-0x600508b1001cf76cb54a0dec4acc6459"}},
	}
	if got := hw.LinuxDisks(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestHardwareFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hardware.json")
	for text, why := range map[string]string{
		`{"esxi": "8.0.3", "nic": []}`:                                                         "unknown field",
		`{"esxi": "5.x"}`:                                                                      "no ESXi version",
		`{"esxi": "8.0.3", "nics": [{"mac": "a4:bf"}]}`:                                        "no MAC address",
		`{"esxi": "8.0.3", "disks": [{"bus": "ide", "size": 512}]}`:                            "no bus",
		`{"esxi": "8.0.3", "disks": [{"bus": "sata", "size": 1000}]}`:                          "whole sectors",
		`{"esxi": "8.0.3", "nics": [{"mac": "A4:BF:01:4E:37:14", "wire": [{"subnet": "x"}]}]}`: "ParsePrefix",
		`{"esxi": "8.0.3", "disks": [{"bus": "sata", "size": 512, "partitions": ["1 2 x"]}]}`:  "no partition",
		`{"esxi": "8.0.3", "disks": [{"bus": "sata", "size": 512, "image": "disk.raw"}]}`:      "full path",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadHardware(path); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
	}
}

func TestPartitionText(t *testing.T) {
	for _, text := range []string{`"1 64 204863 systemPartition 128"`, `"7 16986112 67108830 vmfsl"`, `"2 2048 4095 0FC63DAF-8483-4772-8E79-3D69D8477DE4"`} {
		var p Partition
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(p); err != nil || string(got) != text {
			t.Errorf("%s became %s (%v)", text, got, err)
		}
	}
	for _, text := range []string{`"1 2 3"`, `"1 2 3 nonsense"`, `"a 2 3 vmfs"`} {
		if err := json.Unmarshal([]byte(text), new(Partition)); err == nil {
			t.Errorf("%s is taken for a partition", text)
		}
	}
	var e Extent
	if err := json.Unmarshal([]byte(`"mpx.vmhba32:C0:T0:L0:7 4096"`), &e); err != nil || e != (Extent{"mpx.vmhba32:C0:T0:L0", 7, 4096}) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestMaskBits(t *testing.T) {
	for mask, want := range map[string]int{"255.255.255.0": 24, "255.255.252.0": 22, "0.0.0.0": 0, "255.255.255.255": 32, "255.0.255.0": -1, "None": -1, "ffff::": -1} {
		if got := MaskBits(mask); got != want {
			t.Errorf("%s: %d, want %d", mask, got, want)
		}
	}
}
