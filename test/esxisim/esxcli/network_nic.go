package esxcli

import (
	"fmt"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func nicCommands() []command {
	name := need("n", "nic-name", "The NIC.")
	return []command{
		{path: "network nic list", text: "List the NICs.", run: nicList},
		{path: "network nic get", text: "Show a NIC.", options: []option{name}, run: nicGet},
	}
}

func nicList(c *call) (output, error) {
	o := table("Name", "PCI Device", "Driver", "Admin Status", "Link Status", ">Speed", "Duplex", "MAC Address", ">MTU", "Description")
	for i, n := range c.Hardware.NICs {
		status, speed, duplex := linkOf(n)
		name := fmt.Sprintf("vmnic%d", i)
		o.add(name, n.PCI, n.Driver, "Up", status, speed, duplex, n.MAC, nicMTU(c, name), n.Description)
	}
	return o, nil
}

func linkOf(n host.NIC) (status string, speed int, duplex string) {
	if n.Down {
		return "Down", 0, "Half"
	}
	return "Up", n.Speed, "Full"
}

// nicMTU is that of the vSwitch the NIC belongs to.
func nicMTU(c *call, name string) int {
	if w := c.State.UplinkOwner(name); w != nil {
		return w.MTU
	}
	return 1500
}

func nicGet(c *call) (output, error) {
	n, err := nic(c, c.str("nic-name"))
	if err != nil {
		return output{}, err
	}
	status, _, _ := linkOf(*n)
	return one(
		field{"Advertised Auto Negotiation", true},
		field{"Advertised Link Modes", []string{"Auto", fmt.Sprintf("%dBaseT/Full", n.Speed)}},
		field{"Auto Negotiation", true},
		field{"Cable Type", "Twisted Pair"},
		field{"Current Message Level", 0},
		field{"Driver Info", []field{
			{"Bus Info", strings.Replace(n.PCI, ".", ":", 1)}, {"Driver", n.Driver}, {"Firmware Version", "1.0"}, {"Version", "1.0"},
		}},
		field{"Link Detected", !n.Down},
		field{"Link Status", status + " "},
		field{"Name", c.str("nic-name")},
		field{"PHYAddress", 0},
		field{"Pause Autonegotiate", false},
		field{"Pause RX", false},
		field{"Pause TX", false},
		field{"Supported Ports", "TP"},
		field{"Supports Auto Negotiation", true},
		field{"Supports Pause", true},
		field{"Supports Wakeon", true},
		field{"Transceiver", "internal"},
		field{"Virtual Address", "00:50:56:5" + n.MAC[len(n.MAC)-7:]},
		field{"Wakeon", "MagicPacket(tm)"},
	), nil
}

func nic(c *call, name string) (*host.NIC, error) {
	n := c.Hardware.NIC(name)
	if n == nil {
		return nil, refuse("Unknown NIC %s: Not found", name)
	}
	return n, nil
}
