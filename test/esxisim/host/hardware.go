package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim"
)

// Hardware describes a machine and the ESXi that is installed on it.
type Hardware struct {
	Name  string `json:"name"`            // seeds everything that looks random: UUIDs, generated MACs
	ESXi  string `json:"esxi"`            // "6.7", "8.0.3", "8.0U3e"
	Build string `json:"build,omitempty"` // default: a known one of the version
	NICs  []NIC  `json:"nics"`            // in PCI order: vmnic0, vmnic1, ...
	Disks []Disk `json:"disks"`           // in PCI order, which decides over vmhba numbers

	// VSwitchPorts is how many ports all vSwitches may have together; ESXi works
	// it out from the machine's size. Default 6400.
	VSwitchPorts int `json:"vswitch_ports,omitempty"`
	// HostdReadyMS is how long after the boot hostd needs before vim-cmd works.
	HostdReadyMS int `json:"hostd_ready_ms,omitempty"`
	// DHCPAnswerMS is how long a vmk waits for its lease.
	DHCPAnswerMS int     `json:"dhcp_answer_ms,omitempty"`
	Faults       []Fault `json:"faults,omitempty"`
}

// NIC is a network port of the machine.
type NIC struct {
	MAC         string `json:"mac"`
	Driver      string `json:"driver,omitempty"`      // default "ixgben"
	PCI         string `json:"pci,omitempty"`         // default: one device with a function per NIC
	Speed       int    `json:"speed,omitempty"`       // Mbit/s; default 10000
	Description string `json:"description,omitempty"` // default: an Intel one
	Down        bool   `json:"down,omitempty"`        // no cable
	MaxMTU      int    `json:"max_mtu,omitempty"`     // default 9000
	// Wire is what the switch port carries. Empty: every VLAN and subnet, without DHCP.
	Wire []Wire `json:"wire,omitempty"`
}

// Wire is a subnet on a VLAN of a switch port.
type Wire struct {
	VLAN    int      `json:"vlan,omitempty"`
	Subnet  string   `json:"subnet"`            // "10.0.0.0/24"
	Gateway string   `json:"gateway,omitempty"` // a router that reaches everything
	DHCP    string   `json:"dhcp,omitempty"`    // the address it leases; empty: no server
	DNS     []string `json:"dns,omitempty"`     // servers it gives with the lease
}

// Disk is a disk, as its firmware describes it.
type Disk struct {
	Linux    string `json:"linux"`              // name on Linux: "sda", "nvme0n1"
	Bus      string `json:"bus"`                // "sata", "sas", "nvme", "raid", "usb"
	Model    string `json:"model"`              // with its blanks, not padded
	Vendor   string `json:"vendor,omitempty"`   // of SAS, RAID and USB
	Serial   string `json:"serial,omitempty"`   //
	WWN      string `json:"wwn,omitempty"`      // hexadecimal, of SATA, SAS and RAID: NAA 5 or 6
	EUI      string `json:"eui,omitempty"`      // 16 hexadecimal digits, of NVMe
	NGUID    string `json:"nguid,omitempty"`    // 32 hexadecimal digits, of NVMe
	Size     int64  `json:"size"`               // bytes
	Boot     bool   `json:"boot,omitempty"`     // ESXi is installed here; default: the first disk
	Rotating bool   `json:"rotating,omitempty"` // no SSD
	// SerialRight pads the serial number on its left, as Seagate does, not on its right.
	SerialRight bool   `json:"serial_right,omitempty"`
	Revision    string `json:"revision,omitempty"`  // of the firmware; default "1.00"
	Adapter     string `json:"adapter,omitempty"`   // default: by bus and order
	PCI         string `json:"pci,omitempty"`       // of an NVMe drive, as paths name it: "d00"; default: by adapter
	NQN         string `json:"nqn,omitempty"`       // name of an NVMe subsystem that has one of its own
	ESXi        string `json:"esxi_name,omitempty"` // for a disk whose name follows no known rule

	// Image is a file with the disk's content, whose partition table counts.
	// Without it the table is part of the state.
	Image string `json:"image,omitempty"`
	// Partitions are those of a disk without an image, beside what ESXi's
	// installer makes on the boot disk. A disk with none has no label.
	Partitions []Partition `json:"partitions,omitempty"`
	// Datastore is the name of the VMFS volume that is on the last VMFS partition.
	Datastore string `json:"datastore,omitempty"`
}

// Fault makes a tool fail. It does nothing then, or, with Late, what it always
// does.
type Fault struct {
	Command string `json:"command"`        // how the call starts: "esxcli network ip interface add"
	Skip    int    `json:"skip,omitempty"` // calls that still work before
	Times   int    `json:"times"`          // calls that fail then; -1: all
	Text    string `json:"text"`           // printed instead of what the tool prints
	Way     Way    `json:"way,omitempty"`
	Late    bool   `json:"late,omitempty"`
}

// Way is how a tool fails.
type Way string

const (
	Refuse   Way = ""         // exit status 1
	Nonsense Way = "nonsense" // exit status 0
	Hang     Way = "hang"     // no exit for an hour
	Kill     Way = "kill"     // the program that called the tool is killed
)

// ReadHardware reads a hardware file.
func ReadHardware(path string) (Hardware, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Hardware{}, err
	}
	var h Hardware
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return Hardware{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if err := h.complete(); err != nil {
		return Hardware{}, fmt.Errorf("cannot use %s: %w", path, err)
	}
	return h, nil
}

// complete fills in the defaults and refuses what no machine has.
func (h *Hardware) complete() error {
	if _, err := h.Release(); err != nil {
		return err
	}
	setDefault(&h.VSwitchPorts, 6400)
	for i := range h.NICs {
		n := &h.NICs[i]
		n.MAC = strings.ToLower(n.MAC)
		if !macForm.MatchString(n.MAC) {
			return fmt.Errorf("%q is no MAC address", n.MAC)
		}
		setDefault(&n.Driver, "ixgben")
		setDefault(&n.PCI, fmt.Sprintf("0000:%02x:00.%d", 3+i/2*0x10, i%2))
		setDefault(&n.Description, "Intel(R) Ethernet Controller X540-AT2")
		setDefault(&n.Speed, 10000)
		setDefault(&n.MaxMTU, 9000)
		for _, w := range n.Wire {
			if _, err := netip.ParsePrefix(w.Subnet); err != nil {
				return err
			}
		}
	}
	for i, d := range h.Disks {
		setDefault(&h.Disks[i].Revision, "1.00")
		if !slices.Contains([]string{"sata", "sas", "nvme", "raid", "usb"}, d.Bus) {
			return fmt.Errorf("disk %s: there is no bus %q", d.Linux, d.Bus)
		}
		if d.Image != "" && !filepath.IsAbs(d.Image) {
			return fmt.Errorf("disk %s: the image %s needs its full path", d.Linux, d.Image)
		}
		if d.Size <= 0 || d.Size%esxisim.Sector != 0 {
			return fmt.Errorf("disk %s: %d bytes are no whole sectors", d.Linux, d.Size)
		}
	}
	for _, f := range h.Faults {
		if !slices.Contains([]Way{Refuse, Nonsense, Hang, Kill}, f.Way) {
			return fmt.Errorf("there is no way %q to fail", f.Way)
		}
	}
	if len(h.Disks) > 0 && !slices.ContainsFunc(h.Disks, func(d Disk) bool { return d.Boot }) {
		h.Disks[0].Boot = true
	}
	return nil
}

func setDefault[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}

// Release is the ESXi that is installed.
func (h *Hardware) Release() (esxisim.Release, error) {
	return esxisim.NewRelease(esxisim.Options{Version: h.ESXi, Build: h.Build})
}

// NIC returns vmnic0, vmnic1, ... by name; nil if there is none.
func (h *Hardware) NIC(name string) *NIC {
	for i := range h.NICs {
		if name == vmnic(i) {
			return &h.NICs[i]
		}
	}
	return nil
}

func vmnic(i int) string { return fmt.Sprintf("vmnic%d", i) }
