package weasel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim"
)

// fakeSys builds the part of sysfs that is looked at: controllers with their
// driver, and block devices and NICs behind them.
func fakeSys(t *testing.T) string {
	t.Helper()
	sys := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, path string) {
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(sys, target), path); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []struct{ node, controller, driver, sectors, model string }{
		{"sda", "pci1/ata1/host0", "ata_piix", "67108864", "QEMU HARDDISK"},
		{"sdb", "pci2/ata3/host2", "ahci", "33554432", "QEMU HARDDISK"},
		{"sdc", "pci3/usb1/1-1/1-1:1.0", "usb-storage", "65536", "QEMU STICK"},
		{"nvme0n1", "pci4/nvme/nvme0", "nvme", "1000", "QEMU NVMe Ctrl"},
		{"vda", "pci5/virtio1", "virtio_blk", "1000", ""},
		{"sr0", "pci7/ata2/host1", "ata_piix", "100", ""},
		{"sr1", "pci8/ata4/host3", "ahci", "100", ""},
	} {
		// The driver is the controller's, for USB that of the interface, with
		// the bus's and the kernel's own drivers around it.
		at := "devices/" + strings.SplitN(d.controller, "/", 2)[0]
		if d.driver == "usb-storage" {
			link("bus/pci/drivers/xhci_hcd", at+"/driver")
			at = "devices/" + d.controller
		}
		link("bus/drivers/"+d.driver, at+"/driver")
		dir := "devices/" + d.controller + "/" + d.node
		write(dir+"/size", d.sectors+"\n")
		write(dir+"/device/model", d.model+"\n")
		write(dir+"/device/vpd_pg80", "\x00\x80\x00\x14             QM00001")
		link(dir, "block/"+d.node)
	}
	write("devices/pci3/usb1/1-1/1-1:1.0/sdc/sdc1/partition", "1")
	write("devices/pci6/address", "")
	write("class/net/eth0/address", "52:54:00:00:00:01\n")
	link("devices/pci6", "class/net/eth0/device")
	write("class/net/lo/address", "00:00:00:00:00:00\n")
	return sys
}

func TestHardware(t *testing.T) {
	sys := fakeSys(t)
	for version, want := range map[string]string{
		"6.7": "nvme0n1=nvme_pcie sda=vmkata sdb=vmw_ahci sdc=vmkusb",
		"9.0": "nvme0n1=nvme_pcie sdb=vmw_ahci sdc=vmkusb", // no disk on IDE any more
	} {
		r, err := esxisim.NewRelease(esxisim.Options{Version: version})
		if err != nil {
			t.Fatal(err)
		}
		found, err := disks(sys, r)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range found {
			got = append(got, d.Node+"="+d.Driver)
			if d.Node == "sdb" && (d.Size != 16<<30 || !slices.Contains(d.Names, "t10.ATA_____QEMU_HARDDISK___________________________QM00001_____________")) {
				t.Errorf("%+v", d)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: disks %q, want %s", version, got, want)
		}
	}
	if units, err := opticalUnits(sys); err != nil || len(units) != 2 || units["sr0"] != "vmkata" || units["sr1"] != "vmw_ahci" {
		t.Errorf("optical units %v, %v", units, err)
	}
	if parts, err := usbPartitions(sys); err != nil || !slices.Equal(parts, []string{"sdc1"}) {
		t.Errorf("USB partitions %q, %v", parts, err)
	}
	if macs, err := nics(sys); err != nil || !slices.Equal(macs, []string{"52:54:00:00:00:01"}) {
		t.Errorf("NICs %q, %v", macs, err)
	}
}

func TestChooseDisk(t *testing.T) {
	found := []Disk{
		{Node: "sda", Driver: "vmkusb", Model: "STICK", Names: []string{"mpx.vmhba0:C0:T0:L0"}},
		{Node: "sdb", Driver: "vmw_ahci", Model: "QEMU HARDDISK", Names: []string{"mpx.vmhba1:C0:T0:L0"}},
		{Node: "nvme0n1", Driver: "nvme_pcie", Model: "Fast One", Names: []string{"mpx.vmhba2:C0:T0:L0"}},
	}
	for _, c := range []struct {
		target Target
		want   string
	}{
		{Target{FirstDisk: true, Filter: []string{"local", "remote", "usb"}}, "sdb"},
		{Target{FirstDisk: true, Filter: []string{"usb", "local"}}, "sda"},
		{Target{FirstDisk: true, Filter: []string{"nvme_pcie", "local"}}, "nvme0n1"},
		{Target{FirstDisk: true, Filter: []string{"fast"}}, "nvme0n1"},
		{Target{FirstDisk: true, Filter: []string{"remote", "esx"}}, ""},
		{Target{Disk: "mpx.vmhba2:C0:T0:L0"}, "nvme0n1"},
		{Target{Disk: "/vmfs/devices/disks/mpx.vmhba1:C0:T0:L0"}, "sdb"},
		{Target{Disk: "t10.NVMe____of_another_machine"}, ""},
	} {
		d, err := c.target.choose(found)
		if d.Node != c.want || (err == nil) == (c.want == "") {
			t.Errorf("%+v: %q, %v; want %q", c.target, d.Node, err, c.want)
		}
	}
}

func TestChooseNIC(t *testing.T) {
	macs := []string{"52:54:00:aa:00:01", "52:54:00:aa:00:02"}
	for device, want := range map[string]string{
		"": macs[0], "vmnic1": macs[1], "52:54:00:AA:00:02": macs[1], "vmnic2": "", "vmnic10": "",
	} {
		if got, err := choose(device, macs); got != want || (err == nil) == (want == "") {
			t.Errorf("%q: %q, %v; want %q", device, got, err, want)
		}
	}
}
