package curtin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/tinylinux"
)

// attach gives the machine a disk, with what is known of it: the serial number
// that MAAS has, or the device's name where it has none, and the identity in hw,
// which is zero if there is no description of the machine.
//
// ATA has room for 20 characters of serial number; a longer one is that of a SAS
// disk or RAID volume. QEMU's WWNs have 64 bits, so that such a volume is known
// by its serial number only, which is its WWN for MAAS.
func attach(m *tinylinux.Machine, disk Disk, hw host.Disk, device, path string) {
	serial := cmp.Or(disk.Serial, hw.Serial, device)
	drive := fmt.Sprintf("if=none,id=%s,format=raw,discard=unmap,cache=unsafe,file=%s", device, strings.ReplaceAll(path, ",", ",,"))
	var modules, devices []string
	switch {
	case strings.HasPrefix(device, "nvme"):
		modules = []string{"nvme"}
		devices = []string{
			fmt.Sprintf("nvme,id=%s-bus,serial=%s", device, serial),
			fmt.Sprintf("nvme-ns,bus=%s-bus,drive=%s", device, device) + identity("eui64", hw.EUI),
		}
	case hw.Bus == "sas" || len(serial) > 20:
		modules = []string{"virtio_scsi"}
		devices = []string{
			fmt.Sprintf("virtio-scsi-pci,id=%s-bus", device),
			fmt.Sprintf("scsi-hd,bus=%s-bus.0,drive=%s,serial=%s", device, device, serial) + identity("wwn", hw.WWN),
		}
	default:
		modules = []string{"ahci"}
		devices = []string{
			fmt.Sprintf("ahci,id=%s-bus", device),
			fmt.Sprintf("ide-hd,bus=%s-bus.0,drive=%s,serial=%s", device, device, serial) + identity("wwn", hw.WWN),
		}
	}
	for _, module := range modules {
		if !slices.Contains(m.Modules, module) {
			m.Modules = append(m.Modules, module)
		}
	}
	m.Args = append(m.Args, "-drive", drive)
	for _, d := range devices {
		m.Args = append(m.Args, "-device", d)
	}
}

// identity is an option with 64 bits; nothing for other lengths.
func identity(name, digits string) string {
	if len(digits) != 16 {
		return ""
	}
	return fmt.Sprintf(",%s=0x%s", name, digits)
}
