package main

import (
	"fmt"
	"strings"

	"github.com/esxid/esxid/test/esxisim/esxcli"
)

// scsidevs is esxcfg-scsidevs: -l for everything, -c for a table, -m for the
// VMFS volumes.
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
	case "-c", "--compact-list":
		t.printf("Device UID                            Device Type      Console Device                                            Size      Multipath PluginDisplay Name\n")
		for _, d := range t.Devices {
			t.printf("%s  Direct-Access    %s  %dMB  NMP     %s\n", d.Name, d.Path(), d.Size>>20, d.DisplayName())
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
		return t.fail("esxcfg-scsidevs: wrong use: -l, -c or -m")
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

// nics is esxcfg-nics -l.
func nics(t *task) int {
	if len(t.args) != 2 || t.args[1] != "-l" {
		return t.fail("esxcfg-nics: wrong use: -l")
	}
	t.printf("%-8s%-13s%-12s%-5s%-11s%-7s%-18s%-7s%s\n", "Name", "PCI", "Driver", "Link", "Speed", "Duplex", "MAC Address", "MTU", "Description")
	for i, n := range t.Hardware.NICs {
		link, speed, duplex := "Up", n.Speed, "Full"
		if n.Down {
			link, speed, duplex = "Down", 0, "Half"
		}
		t.printf("%-8s%-13s%-12s%-5s%-11s%-7s%-18s%-7d%s\n", fmt.Sprintf("vmnic%d", i), n.PCI, n.Driver, link, fmt.Sprintf("%dMbps", speed), duplex, n.MAC, 1500, n.Description)
	}
	return 0
}

// vmknics is esxcfg-vmknic -l.
func vmknics(t *task) int {
	if len(t.args) != 2 || t.args[1] != "-l" {
		return t.fail("esxcfg-vmknic: wrong use: -l")
	}
	t.printf("%-11s%-40s%-10s%-40s%-16s%-16s%-18s%-7s%-9s%-8s%-20s%s\n", "Interface", "Port Group/DVPort/Opaque Network", "IP Family", "IP Address", "Netmask", "Broadcast", "MAC Address", "MTU", "TSO MSS", "Enabled", "Type", "NetStack")
	for i := range t.State.Interfaces {
		v := &t.State.Interfaces[i]
		for _, p := range t.Addresses(v) {
			family, kind := "IPv4", strings.ToUpper(v.IPv4.Type)
			if p.Addr().Is6() {
				family, kind = "IPv6", "STATIC, PREFERRED"
			}
			t.printf("%-11s%-40s%-10s%-40s%-16d%-16s%-18s%-7d%-9d%-8v%-20s%s\n", v.Name, v.Portgroup, family, p.Addr(), p.Bits(), "", v.MAC, v.MTU, 65535, !v.Disabled, kind, "defaultTcpipStack")
		}
	}
	return 0
}

// routes is esxcfg-route: -l, or the default gateway.
func routes(t *task) int {
	if len(t.args) == 1 {
		for _, r := range t.ActiveRoutes(false) {
			if r.Network.Bits() == 0 {
				t.printf("VMkernel default gateway is %s\n", r.Gateway)
			}
		}
		return 0
	}
	if len(t.args) != 2 || t.args[1] != "-l" {
		return t.fail("esxcfg-route: wrong use: -l")
	}
	t.printf("VMkernel Routes:\n%-17s%-17s%-17s%s\n", "Network", "Netmask", "Gateway", "Interface")
	for _, r := range t.ActiveRoutes(false) {
		network, gateway := r.Network.Addr().String(), r.Gateway.String()
		if r.Network.Bits() == 0 {
			network = "default"
		}
		if r.Gateway.IsUnspecified() {
			gateway = "Local Subnet"
		}
		t.printf("%-17s%-17d%-17s%s\n", network, r.Network.Bits(), gateway, r.Interface)
	}
	return 0
}
