package weasel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim"
)

// Disk is a block device the installer could use.
type Disk struct {
	Node   string // "sda"
	Size   int64
	Driver string // ESXi's: "vmw_ahci", "vmkata", "nvme_pcie", "pvscsi", "vmkusb"
	Model  string
	Names  []string // by which --disk= may call it
}

// esxiDriver translates a Linux driver's name.
var esxiDriver = map[string]string{
	"ahci": "vmw_ahci", "ata_piix": "vmkata", "nvme": "nvme_pcie", "vmw_pvscsi": "pvscsi",
	"usb-storage": "vmkusb",
}

func (d Disk) usb() bool { return d.Driver == "vmkusb" }

// matches tells whether a word of a --firstdisk= list means the disk.
func (d Disk) matches(word string) bool {
	switch word {
	case "local":
		return !d.usb()
	case "usb":
		return d.usb()
	case "remote", "esx", "localesx", "remoteesx":
		return false // there is no such disk in the simulated machine
	}
	return word == d.Driver || strings.Contains(strings.ToLower(d.Model), strings.ToLower(word))
}

// disks lists the disks for which the release has a driver, in the kernel's order.
func disks(sys string, r esxisim.Release) ([]Disk, error) {
	nodes, err := blockDevices(sys, "sd*", "nvme*n*")
	if err != nil {
		return nil, err
	}
	var found []Disk
	for i, node := range nodes {
		d := Disk{Node: node, Driver: driverOf(sys, node), Model: attribute(sys, node, "device/model")}
		if d.Driver == "" || d.Driver == "vmkata" && r.AtLeast(9) {
			continue
		}
		sectors, err := strconv.ParseInt(attribute(sys, node, "size"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s has no size: %w", node, err)
		}
		d.Size = sectors * esxisim.Sector
		d.Names = []string{fmt.Sprintf("mpx.vmhba%d:C0:T0:L0", i)}
		if d.Driver == "vmw_ahci" || d.Driver == "vmkata" {
			model := strings.ReplaceAll(fmt.Sprintf("%-40.40s", d.Model), " ", "_")
			serial := strings.ReplaceAll(fmt.Sprintf("%-20.20s", ataSerial(sys, node)), " ", "_")
			d.Names = append(d.Names, "t10.ATA_____"+model+serial)
		}
		found = append(found, d)
	}
	return found, nil
}

// opticalUnits lists the CD drives, with the driver of each.
func opticalUnits(sys string) (map[string]string, error) {
	nodes, err := blockDevices(sys, "sr*")
	units := map[string]string{}
	for _, node := range nodes {
		units[node] = driverOf(sys, node)
	}
	return units, err
}

// usbPartitions lists the partitions of USB disks: "sdb1".
func usbPartitions(sys string) ([]string, error) {
	nodes, err := blockDevices(sys, "sd*")
	if err != nil {
		return nil, err
	}
	var partitions []string
	for _, node := range nodes {
		if driverOf(sys, node) != "vmkusb" {
			continue
		}
		paths, err := filepath.Glob(filepath.Join(sys, "block", node, node+"*"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			partitions = append(partitions, filepath.Base(path))
		}
	}
	return partitions, nil
}

// nics returns the MAC addresses of the NICs that have a driver: vmnic0, vmnic1, ...
func nics(sys string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(sys, "class/net/*/device"))
	var macs []string
	for _, path := range paths {
		mac, err := os.ReadFile(filepath.Join(filepath.Dir(path), "address"))
		if err != nil {
			return nil, err
		}
		macs = append(macs, strings.TrimSpace(string(mac)))
	}
	return macs, err
}

func blockDevices(sys string, patterns ...string) ([]string, error) {
	var nodes []string
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(sys, "block", pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			nodes = append(nodes, filepath.Base(path))
		}
	}
	slices.Sort(nodes)
	return nodes, nil
}

func attribute(sys, node, name string) string {
	text, err := os.ReadFile(filepath.Join(sys, "block", node, name))
	if err != nil {
		return "" // not every device has every attribute
	}
	return strings.TrimSpace(string(text))
}

// ataSerial reads the unit serial number page (SPC-4, 7.8.17), which Linux
// makes from what the ATA disk says of itself.
func ataSerial(sys, node string) string {
	page := attribute(sys, node, "device/vpd_pg80")
	return strings.TrimSpace(page[min(4, len(page)):])
}

// driverOf climbs from a block device to the controller whose driver is known.
func driverOf(sys, node string) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(sys, "block", node))
	if err != nil {
		return ""
	}
	for ; dir != sys && len(dir) > 1; dir = filepath.Dir(dir) {
		link, err := os.Readlink(filepath.Join(dir, "driver"))
		if err != nil {
			continue
		}
		if name := esxiDriver[filepath.Base(link)]; name != "" {
			return name
		}
	}
	return ""
}
