package esxcli

import (
	"fmt"
	"slices"

	"github.com/esxid/esxid/test/esxisim/host"
)

func vswitchCommands() []command {
	name := need("v", "vswitch-name", "The name of the vSwitch.")
	uplink := need("u", "uplink-name", "The NIC.")
	base := "network vswitch standard "
	return []command{
		{path: base + "list", text: "List the vSwitches.", options: []option{may("v", "vswitch-name", text, "Only this one.")}, run: vswitchList},
		{path: base + "add", text: "Add a vSwitch.", options: []option{name, may("P", "ports", number, "How many ports it has.")}, run: vswitchAdd},
		{path: base + "remove", text: "Remove a vSwitch.", options: []option{name}, run: vswitchRemove},
		{path: base + "set", text: "Change a vSwitch.", options: []option{
			name, may("m", "mtu", number, "MTU."), may("c", "cdp-status", text, "advertise, both, down or listen."),
		}, run: vswitchSet},
		{path: base + "uplink add", text: "Add an uplink to a vSwitch.", options: []option{uplink, name}, run: uplinkAdd},
		{path: base + "uplink remove", text: "Remove an uplink from a vSwitch.", options: []option{uplink, name}, run: uplinkRemove},
	}
}

func vswitchList(c *call) (output, error) {
	o := output{list: true}
	if c.has("vswitch-name") {
		if _, err := vswitch(c); err != nil {
			return o, err
		}
	}
	for _, w := range c.State.Switches {
		if c.has("vswitch-name") && w.Name != c.str("vswitch-name") {
			continue
		}
		cdp := w.CDP
		if cdp == "" {
			cdp = "listen"
		}
		var groups []string
		for _, g := range w.Portgroups {
			groups = append(groups, g.Name)
		}
		class := "cswitch"
		if !c.AtLeast(6, 7) {
			class = "etherswitch"
		}
		o.objects = append(o.objects, object{title: w.Name, fields: []field{
			{"Name", w.Name}, {"Class", class}, {"Num Ports", c.Hardware.VSwitchPorts}, {"Used Ports", 1 + 2*len(w.Uplinks) + clients(c, w)},
			{"Configured Ports", w.Ports}, {"MTU", w.MTU}, {"CDP Status", cdp}, {"Beacon Enabled", w.Teaming.Detection == "beacon"},
			{"Beacon Interval", 1}, {"Beacon Threshold", 3}, {"Beacon Required By", ""}, {"Uplinks", w.Uplinks}, {"Portgroups", groups},
		}})
	}
	return o, nil
}

// clients are the interfaces and the virtual machines on a vSwitch.
func clients(c *call, w host.Switch) int {
	n := 0
	for _, g := range w.Portgroups {
		n += g.VMs + len(interfacesIn(c, g.Name))
	}
	return n
}

func vswitch(c *call) (*host.Switch, error) {
	w := c.State.Switch(c.str("vswitch-name"))
	if w == nil {
		return nil, refuse("No such vswitch: %s", c.str("vswitch-name"))
	}
	return w, nil
}

// maxName is the longest name of a vSwitch.
const maxName = 31

func vswitchAdd(c *call) (output, error) {
	name, ports := c.str("vswitch-name"), 128
	if c.has("ports") {
		ports = c.num("ports")
	}
	switch {
	case c.State.Switch(name) != nil:
		return output{}, refuse("vswitch %s already exists", name)
	case name == "" || len(name) > maxName:
		return output{}, refuse("Invalid vswitch name '%s': it has %d characters, 1 to %d are allowed", name, len(name), maxName)
	case ports < 1 || ports > 4096:
		return output{}, refuse("Invalid number of ports: %d", ports)
	}
	c.State.Switches = append(c.State.Switches, host.Switch{
		Name: name, MTU: 1500, Ports: ports, Uplinks: []string{}, Portgroups: []host.Portgroup{},
		Teaming: host.Teaming{LoadBalancing: "portid", Active: []string{}},
	})
	return output{}, nil
}

func vswitchRemove(c *call) (output, error) {
	w, err := vswitch(c)
	if err != nil {
		return output{}, err
	}
	if clients(c, *w) > 0 {
		return output{}, busy("vswitch " + w.Name + " has VMkernel interfaces or virtual machines")
	}
	c.State.Switches = slices.DeleteFunc(c.State.Switches, func(o host.Switch) bool { return o.Name == c.str("vswitch-name") })
	return output{}, nil
}

// The MTUs ESXi takes.
const (
	minMTU = 1280
	maxMTU = 9000
)

func checkMTU(mtu int) error {
	if mtu < minMTU || mtu > maxMTU {
		return refuse("Invalid MTU %d. The valid range is %d to %d", mtu, minMTU, maxMTU)
	}
	return nil
}

func vswitchSet(c *call) (output, error) {
	w, err := vswitch(c)
	if err != nil {
		return output{}, err
	}
	if c.has("mtu") {
		if err := checkMTU(c.num("mtu")); err != nil {
			return output{}, err
		}
		for _, name := range w.Uplinks {
			if n := c.Hardware.NIC(name); n != nil && c.num("mtu") > n.MaxMTU {
				return output{}, sysinfo("Not supported", fmt.Sprintf("%s takes an MTU of %d at most", name, n.MaxMTU))
			}
		}
		w.MTU = c.num("mtu")
	}
	if c.has("cdp-status") {
		if !slices.Contains([]string{"advertise", "both", "down", "listen"}, c.str("cdp-status")) {
			return output{}, refuse("Invalid CDP status %s", c.str("cdp-status"))
		}
		w.CDP = c.str("cdp-status")
	}
	return output{}, nil
}

func uplinkAdd(c *call) (output, error) {
	w, err := vswitch(c)
	if err != nil {
		return output{}, err
	}
	name := c.str("uplink-name")
	n, err := nic(c, name)
	if err != nil {
		return output{}, err
	}
	if owner := c.State.UplinkOwner(name); owner != nil {
		return output{}, busy(fmt.Sprintf("uplink %s is in use by vswitch %s", name, owner.Name))
	}
	if w.MTU > n.MaxMTU {
		return output{}, sysinfo("Not supported", fmt.Sprintf("%s takes an MTU of %d at most", name, n.MaxMTU))
	}
	w.Uplinks = append(w.Uplinks, name)
	if len(w.Uplinks) == 1 { // further ones are not used before the failover policy names them
		w.Teaming.Active = []string{name}
	}
	return output{}, nil
}

func uplinkRemove(c *call) (output, error) {
	w, err := vswitch(c)
	if err != nil {
		return output{}, err
	}
	name := c.str("uplink-name")
	if !slices.Contains(w.Uplinks, name) {
		return output{}, refuse("%s is not an uplink of vswitch %s", name, w.Name)
	}
	without := func(list []string) []string {
		return slices.DeleteFunc(list, func(n string) bool { return n == name })
	}
	w.Uplinks = without(w.Uplinks)
	teamings := []*host.Teaming{&w.Teaming}
	for i := range w.Portgroups {
		if t := w.Portgroups[i].Teaming; t != nil {
			teamings = append(teamings, t)
		}
	}
	for _, t := range teamings {
		t.Active, t.Standby = without(t.Active), without(t.Standby)
	}
	return output{}, nil
}

// busy is the VMkernel's refusal to change what is in use.
func busy(detail string) error { return sysinfo("Busy", detail) }

// sysinfo is the form in which esxcli passes on an error of the VMkernel.
func sysinfo(status, detail string) error {
	return refuse("Sysinfo error: %s: %s. See the VMkernel log for details", status, detail)
}
