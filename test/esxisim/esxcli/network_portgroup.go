package esxcli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func portgroupCommands() []command {
	group := need("p", "portgroup-name", "The name of the port group.")
	name := need("v", "vswitch-name", "The name of the vSwitch.")
	base := "network vswitch standard portgroup "
	return []command{
		{path: base + "list", text: "List the port groups.", run: portgroupList},
		{path: base + "add", text: "Add a port group to a vSwitch.", options: []option{group, name}, run: portgroupAdd},
		{path: base + "remove", text: "Remove a port group.", options: []option{group, name}, run: portgroupRemove},
		{path: base + "set", text: "Set the VLAN of a port group.", options: []option{
			group, may("v", "vlan-id", number, "The VLAN, 0 to 4095."),
		}, run: portgroupSet},
	}
}

func portgroupList(c *call) (output, error) {
	o := table("Name", "Virtual Switch", ">Active Clients", ">VLAN ID")
	for _, w := range c.State.Switches {
		for _, g := range w.Portgroups {
			o.add(g.Name, w.Name, g.VMs+len(interfacesIn(c, g.Name)), g.VLAN)
		}
	}
	slices.SortStableFunc(o.rows, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	return o, nil
}

// interfacesIn are the names of the interfaces in a port group.
func interfacesIn(c *call, group string) []string {
	var names []string
	for _, v := range c.State.Interfaces {
		if v.Portgroup == group {
			names = append(names, v.Name)
		}
	}
	return names
}

func portgroup(c *call) (*host.Switch, *host.Portgroup, error) {
	w, g := c.State.Portgroup(c.str("portgroup-name"))
	if g == nil {
		return nil, nil, refuse("No such portgroup: %s", c.str("portgroup-name"))
	}
	return w, g, nil
}

func portgroupAdd(c *call) (output, error) {
	w, err := vswitch(c)
	if err != nil {
		return output{}, err
	}
	name := c.str("portgroup-name")
	if _, g := c.State.Portgroup(name); g != nil {
		return output{}, refuse("A portgroup with the name %s already exists", name)
	}
	if name == "" || len(name) > 80 {
		return output{}, refuse("Invalid portgroup name '%s'", name)
	}
	w.Portgroups = append(w.Portgroups, host.Portgroup{Name: name})
	return output{}, nil
}

func portgroupRemove(c *call) (output, error) {
	w, g, err := portgroup(c)
	if err != nil {
		return output{}, err
	}
	if w.Name != c.str("vswitch-name") {
		return output{}, refuse("portgroup %s is not on vswitch %s", g.Name, c.str("vswitch-name"))
	}
	if users := interfacesIn(c, g.Name); users != nil || g.VMs > 0 {
		return output{}, busy(fmt.Sprintf("portgroup %s is in use by %s", g.Name, strings.Join(append(users, fmt.Sprint(g.VMs, " virtual machines")), ", ")))
	}
	name := g.Name
	w.Portgroups = slices.DeleteFunc(w.Portgroups, func(o host.Portgroup) bool { return o.Name == name })
	return output{}, nil
}

func portgroupSet(c *call) (output, error) {
	_, g, err := portgroup(c)
	if err != nil {
		return output{}, err
	}
	if !c.has("vlan-id") {
		return output{}, nil
	}
	if id := c.num("vlan-id"); id < 0 || id > 4095 {
		return output{}, refuse("Invalid VLAN id %d. The valid range is 0 to 4095", id)
	}
	g.VLAN = c.num("vlan-id")
	return output{}, nil
}
