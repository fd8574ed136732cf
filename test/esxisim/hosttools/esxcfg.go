package main

import (
	"strings"

	"github.com/esxid/esxid/test/esxisim/esxcli"
)

// scsidevs is esxcfg-scsidevs: -l for the devices, -m for the VMFS volumes.
func scsidevs(t *task) int {
	switch strings.Join(t.args[1:], " ") {
	case "-l", "--list":
		for _, d := range t.Devices {
			level, ssd := 5, !d.Rotating && d.Bus != "usb"
			if d.Bus == "usb" {
				level = 2
			}
			plugin := "NMP"
			if t.AtLeast(7) && d.Bus != "usb" {
				plugin = "HPP"
			}
			t.printf("%s\n   Device Type: Direct-Access \n   Size: %d MB\n   Display Name: %s\n   Multipath Plugin: %s\n", d.Name, d.Size>>20, d.DisplayName(), plugin)
			t.printf("   Console Device: %s\n   Devfs Path: %s\n", d.Path(), d.Path())
			t.printf("   Vendor: %-8s  Model: %-16.16s  Revis: %-4s \n", d.SCSIVendor(), d.SCSIModel(), d.Revision)
			t.printf("   SCSI Level: %d  Is Pseudo: false Status: on        \n   Is RDM Capable: false Is Removable: %-5v \n", level, d.Bus == "usb")
			t.printf("   Is Local: true  Is SSD: %-5v \n   Other Names: \n      %s\n   VAAI Status: unsupported\n", ssd, d.VML())
		}
	case "-m", "--vmfs":
		for _, v := range t.State.Volumes {
			for i, e := range v.Extents {
				if v.Type != "vfat" && !v.Unmounted {
					t.printf("%s:%d /vmfs/devices/disks/%s:%d %s  %d  %s\n", e.Disk, e.Partition, e.Disk, e.Partition, v.UUID, i, v.Label)
				}
			}
		}
	default:
		return t.fail("esxcfg-scsidevs: wrong use: -l or -m")
	}
	return 0
}

// volumes is esxcfg-volume, whose volumes are those that were made on another
// device. There are none.
func volumes(t *task) int {
	switch strings.Join(t.args[1:], " ") {
	case "-l", "--list":
		t.printf("Scanning for VMFS-6 host activity (4096 bytes/HB, 1024 HBs).\n")
		return 0
	}
	return t.fail("No unresolved VMFS volume with this label or UUID was found")
}

// advcfg is esxcfg-advcfg: -g to get, -s to set an advanced option.
func advcfg(t *task) int {
	switch args := t.args[1:]; {
	case len(args) == 2 && (args[0] == "-g" || args[0] == "--get"):
		value, err := esxcli.Advanced(t.Machine, args[1])
		if err != nil {
			return t.fail("%v", err)
		}
		t.printf("Value of %s is %s\n", args[1][strings.LastIndexByte(args[1], '/')+1:], value)
	case len(args) == 3 && (args[0] == "-s" || args[0] == "--set"):
		if err := esxcli.SetAdvanced(t.Machine, args[2], args[1]); err != nil {
			return t.fail("%v", err)
		}
		t.printf("Value of %s is %s\n", args[2][strings.LastIndexByte(args[2], '/')+1:], args[1])
	default:
		return t.fail("esxcfg-advcfg: wrong use: -g OPTION or -s VALUE OPTION")
	}
	return 0
}
