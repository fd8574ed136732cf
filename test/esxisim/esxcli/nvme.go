package esxcli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func nvmeCommands() []command {
	return []command{
		{path: "nvme device list", text: "List the NVMe controllers.", run: nvmeList},
		{path: "nvme device get", text: "Show an NVMe controller.", options: []option{need("A", "adapter", "The adapter.")}, run: nvmeGet},
		{path: "nvme device namespace list", text: "List the namespaces of a controller.", options: []option{need("A", "adapter", "The adapter.")}, run: func(c *call) (output, error) {
			if _, err := nvme(c); err != nil {
				return output{}, err
			}
			o := table("Namespace ID", "Status")
			o.add("1", "Online")
			return o, nil
		}},
	}
}

// nvmeList: the number in the signature counts the NVMe controllers, that of the
// adapter all of them.
func nvmeList(c *call) (output, error) {
	o := table("HBA Name", "Status", "Signature")
	n := 0
	for _, d := range c.Devices {
		if d.Bus == "nvme" {
			o.add(d.Adapter, "Online", fmt.Sprintf("nvmeMgmt-nvmhba%d", n))
			n++
		}
	}
	return o, nil
}

func nvme(c *call) (*host.Device, error) {
	i := slices.IndexFunc(c.Devices, func(d host.Device) bool { return d.Bus == "nvme" && d.Adapter == c.str("adapter") })
	if i < 0 {
		return nil, refuse("Adapter not found: %s", c.str("adapter"))
	}
	return &c.Devices[i], nil
}

func nvmeGet(c *call) (output, error) {
	d, err := nvme(c)
	if err != nil {
		return output{}, err
	}
	oui := ""
	if len(d.EUI) >= 6 {
		oui = strings.ToLower(d.EUI[:6])
	}
	return output{objects: []object{{title: "Controller Identify Info:", fields: []field{
		{"PCIVID", "0x8086"}, {"PCISSVID", "0x1590"}, {"Serial Number", d.Serial}, {"Model Number", d.Model}, {"Firmware Revision", d.Revision},
		{"Recommended Arbitration Burst", 0}, {"IEEE OUI Identifier", oui}, {"Controller Associated with an SR-IOV Virtual Function", false},
		{"Controller ID", "0x1"}, {"Number of Namespaces", 1}, {"Max Number of Namespaces", 1},
		{"NVM Subsystem NVMe Qualified Name", ""}, {"NVM Subsystem NVMe Qualified Name (hex format)", ""},
	}}}}, nil
}
