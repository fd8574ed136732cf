package esxcli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func pathCommands() []command {
	return []command{
		{path: "storage core path list", text: "List the paths to devices.", options: []option{
			may("d", "device", text, "Only those to this device."), may("p", "path", text, "Only this path."),
		}, run: pathList},
		{path: "storage core adapter list", text: "List the storage adapters.", run: adapterList},
		{path: "storage core adapter rescan", text: "Look for new devices.", options: []option{
			may("a", "all", flag, "On all adapters."), may("A", "adapter", text, "On this adapter."), may("t", "type", text, "What to look for."),
			may("S", "skip-claim", flag, "Without claiming paths."), may("F", "skip-fs-scan", flag, "Without looking for file systems."),
		}, run: func(c *call) (output, error) {
			known := func(d host.Device) bool { return d.Adapter == c.str("adapter") }
			if c.has("adapter") && !slices.ContainsFunc(c.Devices, known) {
				return output{}, refuse("Unknown adapter %s", c.str("adapter"))
			}
			return output{}, nil
		}},
	}
}

// ends are the identifiers of both ends of a path.
func ends(d host.Device) (transport, adapter, target string) {
	switch d.Bus {
	case "nvme":
		return "pcie", "pcie." + cmp.Or(d.PCI, d.Adapter[len("vmhba"):]+"00"), fmt.Sprintf("pcie.%d:0", d.Target)
	case "sata", "usb":
		return d.Bus, d.Bus + "." + d.Adapter, fmt.Sprintf("%s.0:%d", d.Bus, d.Target)
	}
	port, err := strconv.ParseUint(d.WWN[max(0, len(d.WWN)-16):], 16, 64)
	if err != nil {
		return "block", "block." + d.Adapter, "block." + d.RuntimeName()
	}
	return "sas", "sas.5000000000000000", fmt.Sprintf("sas.%016x", port+2) // a drive's ports come after it
}

func pathList(c *call) (output, error) {
	list, err := devices(c)
	o := output{list: true}
	for _, d := range list {
		transport, adapter, target := ends(d)
		uid := adapter + "-" + target + "-" + d.Name
		near, far := "Unavailable or path is unclaimed", "Unavailable or path is unclaimed"
		if transport == "sas" {
			near, far = strings.TrimPrefix(adapter, "sas."), strings.TrimPrefix(target, "sas.")
		}
		fields := []field{
			{"UID", uid}, {"Runtime Name", d.RuntimeName()}, {"Device", d.Name}, {"Device Display Name", d.DisplayName()}, {"Adapter", d.Adapter},
		}
		if c.AtLeast(7) {
			fields = append(fields, field{"Controller", controller(d)})
		}
		fields = append(fields, field{"Channel", 0}, field{"Target", d.Target}, field{"LUN", 0}, field{"Plugin", plugin(c, d)},
			field{"State", "active"}, field{"Transport", transport}, field{"Adapter Identifier", adapter}, field{"Target Identifier", target},
			field{"Adapter Transport Details", near}, field{"Target Transport Details", far}, field{"Maximum IO Size", ioSize[transport]})
		o.objects = append(o.objects, object{title: uid, fields: fields})
	}
	return o, err
}

var ioSize = map[string]int{"pcie": 131072, "sata": 33554432, "usb": 32768, "sas": 4194304, "block": 4194304}

// controller is the NVMe name of a drive's controller. One that the drive does not
// give itself ends with the serial number.
func controller(d host.Device) string {
	switch {
	case d.Bus != "nvme":
		return "Not Applicable"
	case d.NQN != "":
		return d.NQN
	}
	return fmt.Sprintf("nqn.2014-08.org.nvmexpress_8086_%s%s", underlined(d.Model, 40), d.Serial)
}

// underlined is the text with blanks as _, filled up.
func underlined(s string, n int) string {
	b := fmt.Appendf(nil, "%-*s", n, s)
	for i := range b {
		if b[i] == ' ' {
			b[i] = '_'
		}
	}
	return string(b)
}

func adapterList(c *call) (output, error) {
	drivers := map[string]string{"sata": "vmw_ahci", "nvme": "nvme_pcie", "usb": "vmkusb", "sas": "lsi_msgpt3", "raid": "lsi_mr3"}
	if !c.AtLeast(7) {
		drivers["nvme"] = "nvme"
	}
	o := table("HBA Name", "Driver", "Link State", "UID", "Capabilities", "Description")
	seen := map[string]bool{}
	for _, d := range c.Devices {
		if seen[d.Adapter] {
			continue
		}
		seen[d.Adapter] = true
		_, uid, _ := ends(d)
		o.add(d.Adapter, drivers[d.Bus], "link-n/a", uid, "", "("+d.Bus+" controller)")
	}
	return o, nil
}
