package host

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Device is a disk as ESXi sees it.
type Device struct {
	*Disk
	Name    string // "t10.ATA_____...", "naa.5000...", "mpx.vmhba32:C0:T0:L0"
	Adapter string // "vmhba0"
	Target  int    // on that adapter
}

// Devices returns the disks in ESXi's order: by adapter and target.
func (h *Hardware) Devices() []Device {
	next := 0 // adapter
	adapters := map[string]string{}
	targets := map[string]int{}
	var devices []Device
	usb := 32
	for i := range h.Disks {
		d := &h.Disks[i]
		adapter := d.Adapter
		switch {
		case adapter != "":
		case d.Bus == "usb": // numbers from 32 on are for what can be unplugged
			adapter = fmt.Sprintf("vmhba%d", usb)
			usb++
		case d.Bus == "nvme": // each drive is a controller
			adapter = fmt.Sprintf("vmhba%d", next)
			next++
		default:
			if adapters[d.Bus] == "" {
				adapters[d.Bus] = fmt.Sprintf("vmhba%d", next)
				next++
			}
			adapter = adapters[d.Bus]
		}
		dev := Device{Disk: d, Adapter: adapter, Target: targets[adapter]}
		targets[adapter]++
		dev.Name = cmp.Or(d.ESXi, dev.name())
		devices = append(devices, dev)
	}
	slices.SortStableFunc(devices, func(a, b Device) int {
		return cmp.Or(cmp.Compare(len(a.Adapter), len(b.Adapter)), cmp.Compare(a.Adapter, b.Adapter), cmp.Compare(a.Target, b.Target))
	})
	return devices
}

// name makes the device's name from what its firmware says, as ESXi does.
func (d Device) name() string {
	switch {
	case d.Bus == "sata":
		return "t10.ATA_____" + escape(pad(d.Model, 40)) + escape(d.paddedSerial())
	case d.Bus == "nvme" && d.EUI != "":
		return "t10.NVMe____" + escape(pad(d.Model, 40)) + strings.ToUpper(reversed(d.EUI))
	case d.Bus == "nvme" && d.NGUID != "":
		return "eui." + strings.ToLower(d.NGUID)
	case d.Bus == "nvme" && d.Serial != "":
		return "t10.NVMe____" + escape(pad(d.Model, 40)) + escape(pad(d.Serial, 20)) + "00000001" // the namespace
	case (d.Bus == "sas" || d.Bus == "raid") && d.WWN != "":
		return "naa." + strings.ToLower(d.WWN)
	}
	return "mpx." + d.RuntimeName() // it says nothing that is its own
}

// RuntimeName is the path to the device: adapter, channel, target and LUN.
func (d Device) RuntimeName() string { return fmt.Sprintf("%s:C0:T%d:L0", d.Adapter, d.Target) }

// Path is the device's node.
func (d Device) Path() string { return "/vmfs/devices/disks/" + d.Name }

// VML is the device's other name. An ATA disk's holds the serial number and the
// first characters of the model, an NVMe one's a hash, that of a device without
// an identity its path.
func (d Device) VML() string {
	switch {
	case strings.HasPrefix(d.Name, "mpx."):
		path := fmt.Sprintf("%s:%d:0", d.Adapter, d.Target)
		return "vml.0000000000" + hex.EncodeToString([]byte(path))
	case d.Bus == "sata":
		return "vml.0100000000" + hex.EncodeToString([]byte(d.paddedSerial()+pad(d.Model, 6)))
	case d.Bus == "nvme":
		sum := sha256.Sum256([]byte(d.Name))
		return "vml.05" + hex.EncodeToString(sum[:])
	}
	return "vml.0200000000" + strings.TrimPrefix(d.Name, "naa.") + hex.EncodeToString([]byte(pad(d.Model, 6)))
}

// SCSIVendor is the vendor as SCSI has it, 8 characters; SATA disks have none
// of their own.
func (d Device) SCSIVendor() string {
	switch d.Bus {
	case "sata":
		return "ATA     "
	case "nvme":
		return "NVMe"
	}
	return pad(d.Vendor, 8)
}

// SCSIModel is the model as ESXi shows it: 16 characters of SCSI, 40 of NVMe.
func (d Device) SCSIModel() string {
	if d.Bus == "nvme" {
		return pad(d.Model, 40)
	}
	return pad(d.Model, 16)
}

// DisplayName is what people get to see.
func (d Device) DisplayName() string {
	kind := map[string]string{
		"sata": "Local ATA Disk", "nvme": "Local NVMe Disk", "usb": "Local USB Direct-Access", "sas": d.Vendor + " Serial Attached SCSI Disk",
	}[d.Bus]
	if kind == "" {
		kind = "Local " + cmp.Or(d.Vendor, "VMware") + " Disk"
	}
	return kind + " (" + d.Name + ")"
}

// Sectors is the size in blocks of 512 bytes.
func (d Device) Sectors() int64 { return d.Size / 512 }

// paddedSerial is the ATA serial number, which has 20 characters.
func (d *Disk) paddedSerial() string {
	if d.SerialRight {
		return fmt.Sprintf("%20.20s", d.Serial)
	}
	return pad(d.Serial, 20)
}

// pad is the text with exactly n characters.
func pad(s string, n int) string { return fmt.Sprintf("%-*.*s", n, n, s) }

// escape writes blanks as _ and everything but letters, digits and _ as two
// hexadecimal digits, without a mark, so that the name gets longer.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c == ' ' || c == '_':
			b.WriteByte('_')
		case c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%02X", c)
		}
	}
	return b.String()
}

// reversed is the hexadecimal text of the bytes in reverse order.
func reversed(digits string) string {
	b, err := hex.DecodeString(digits)
	if err != nil {
		return digits // not an EUI: shown as it is
	}
	slices.Reverse(b)
	return hex.EncodeToString(b)
}
