package host

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// LinuxDisk is a disk as the deployment's Linux shows it, in the form in which
// the curtin hook hands it to the first boot.
type LinuxDisk struct {
	Name      string            `json:"name"`
	Path      string            `json:"path"`
	Size      int64             `json:"size"`
	BlockSize int               `json:"block_size"`
	Model     string            `json:"model"`  // 16 characters of SCSI and ATA
	Serial    string            `json:"serial"` // the drive's own
	WWID      string            `json:"wwid"`
	EUI       string            `json:"eui"`
	NGUID     string            `json:"nguid"`
	Udev      map[string]string `json:"udev"`
	ByID      []string          `json:"by_id"`
}

// LinuxDisks returns the disks sorted by their names on Linux, which is another
// order than ESXi's.
func (h *Hardware) LinuxDisks() []LinuxDisk {
	var disks []LinuxDisk
	for i := range h.Disks {
		disks = append(disks, h.Disks[i].linux())
	}
	slices.SortFunc(disks, func(a, b LinuxDisk) int { return cmp.Compare(a.Name, b.Name) })
	return disks
}

func (d *Disk) linux() LinuxDisk {
	l := LinuxDisk{Name: d.Linux, Path: "/dev/" + d.Linux, Size: d.Size, BlockSize: 512, Serial: d.Serial, WWID: d.wwid(), Udev: map[string]string{}}
	l.Model = strings.TrimSpace(pad(d.Model, 16))
	if d.Bus == "nvme" {
		l.Model, l.EUI, l.NGUID = d.Model, strings.ToLower(d.EUI), strings.ToLower(d.NGUID)
	}
	name := strings.ReplaceAll(d.Model, " ", "_")
	if d.Serial != "" {
		l.Udev["ID_SERIAL"] = name + "_" + d.Serial
		l.Udev["ID_SERIAL_SHORT"] = d.Serial
	}
	prefix := map[string]string{"sata": "ata-", "nvme": "nvme-", "usb": "usb-"}[d.Bus]
	switch {
	case d.Bus == "raid" || d.Bus == "sas":
		// udev's scsi_id takes the WWN for the serial number; the drive's own is
		// under another name.
		if d.WWN != "" {
			l.Udev["ID_SERIAL"], l.Udev["ID_SERIAL_SHORT"] = "3"+d.WWN, d.WWN
			l.ByID = append(l.ByID, "scsi-3"+d.WWN)
		}
		if d.Serial != "" {
			l.Udev["ID_SCSI_SERIAL"] = d.Serial
		}
	case d.Serial != "":
		l.ByID = append(l.ByID, prefix+name+"_"+d.Serial)
	}
	switch {
	case d.WWN != "":
		l.Udev["ID_WWN"] = "0x" + d.WWN[:min(16, len(d.WWN))]
		l.Udev["ID_WWN_WITH_EXTENSION"] = "0x" + d.WWN
		l.ByID = append(l.ByID, "wwn-0x"+d.WWN)
	case d.Bus == "nvme" && strings.HasPrefix(l.WWID, "eui."):
		l.Udev["ID_WWN"] = l.WWID
		l.ByID = append(l.ByID, "nvme-"+l.WWID)
	}
	slices.Sort(l.ByID)
	return l
}

// wwid is the kernel's worldwide identifier of the disk: the best of what the
// device's VPD page 0x83 or its NVMe namespace holds.
func (d *Disk) wwid() string {
	switch {
	case d.Bus == "nvme" && d.NGUID != "":
		return "eui." + strings.ToLower(d.NGUID)
	case d.Bus == "nvme" && d.EUI != "":
		return "eui." + strings.ToLower(d.EUI)
	case d.Bus == "nvme":
		return fmt.Sprintf("nvme.8086-%x-%x-00000001", d.Serial, d.Model)
	case d.WWN != "":
		return "naa." + d.WWN
	case d.Bus == "sata":
		return "t10.ATA     " + pad(d.Model, 40) + d.paddedSerial()
	}
	return ""
}
