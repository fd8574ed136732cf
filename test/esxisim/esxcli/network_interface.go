package esxcli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func interfaceCommands() []command {
	name := need("i", "interface-name", "The VMkernel interface.")
	tag := need("t", "tagname", "The tag.")
	base := "network ip interface "
	return []command{
		{path: base + "list", text: "List the VMkernel interfaces.", options: []option{may("N", "netstack", text, "Only those of this netstack.")}, run: interfaceList},
		{path: base + "add", text: "Add a VMkernel interface.", options: []option{
			may("i", "interface-name", text, "Its name; default: the next one."), may("p", "portgroup-name", text, "The port group it is in."),
			may("M", "mac-address", text, "Its MAC address."), may("m", "mtu", number, "Its MTU."), may("N", "netstack", text, "Its netstack."),
		}, run: interfaceAdd},
		{path: base + "remove", text: "Remove a VMkernel interface.", options: []option{
			may("i", "interface-name", text, "Its name."), may("p", "portgroup-name", text, "The port group it is in."), may("N", "netstack", text, "Its netstack."),
		}, run: interfaceRemove},
		{path: base + "set", text: "Change a VMkernel interface.", options: []option{
			name, may("e", "enabled", truth, "Whether it is up."), may("m", "mtu", number, "Its MTU."),
		}, run: interfaceSet},
		{path: base + "tag get", text: "Show the tags of an interface.", options: []option{name}, run: tagGet},
		{path: base + "tag add", text: "Add a tag to an interface.", options: []option{name, tag}, run: tagAdd},
		{path: base + "tag remove", text: "Remove a tag from an interface.", options: []option{name, tag}, run: tagRemove},
	}
}

func interfaceList(c *call) (output, error) {
	o := output{list: true}
	for _, v := range c.State.Interfaces {
		w, _ := c.State.Portgroup(v.Portgroup)
		portset := ""
		if w != nil {
			portset = w.Name
		}
		fields := []field{
			{"Name", v.Name}, {"MAC Address", v.MAC}, {"Enabled", !v.Disabled}, {"Portset", portset}, {"Portgroup", v.Portgroup},
			{"Netstack Instance", "defaultTcpipStack"}, {"VDS Name", "N/A"}, {"VDS UUID", "N/A"}, {"VDS Port", "N/A"}, {"VDS Connection", -1},
			{"Opaque Network ID", "N/A"}, {"Opaque Network Type", "N/A"}, {"External ID", "N/A"}, {"MTU", v.MTU}, {"TSO MSS", 65535},
		}
		switch {
		case c.AtLeast(9):
			fields = append(fields, field{"RXDispQueue Size", 4}, field{"Port ID", v.Port}, field{"URPF", 0})
		case c.AtLeast(7):
			fields = append(fields, field{"RXDispQueue Size", 1}, field{"Port ID", v.Port})
		default:
			fields = append(fields, field{"Port ID", v.Port})
		}
		o.objects = append(o.objects, object{title: v.Name, fields: fields})
	}
	return o, nil
}

func vmk(c *call) (*host.Interface, error) {
	v := c.State.Interface(c.str("interface-name"))
	if v == nil {
		return nil, refuse("Interface %s does not exist", c.str("interface-name"))
	}
	return v, nil
}

var vmkForm = regexp.MustCompile(`^vmk\d{1,3}$`)

func interfaceAdd(c *call) (output, error) {
	name, group := c.str("interface-name"), c.str("portgroup-name")
	if !c.has("interface-name") {
		for i := 0; name == "" || c.State.Interface(name) != nil; i++ {
			name = fmt.Sprintf("vmk%d", i)
		}
	}
	if !c.has("portgroup-name") {
		return output{}, &usageError{"Missing required parameter -p|--portgroup-name", nil}
	}
	w, g, err := portgroup(c)
	switch {
	case err != nil:
		return output{}, err
	case !vmkForm.MatchString(name):
		return output{}, refuse("Invalid interface name '%s'", name)
	case c.State.Interface(name) != nil:
		return output{}, refuse("A VMkernel interface with the name %s already exists", name)
	case c.has("netstack") && c.str("netstack") != "defaultTcpipStack":
		return output{}, refuse("Netstack instance %s does not exist", c.str("netstack"))
	}
	if g.VMs > 0 {
		return output{}, busy(fmt.Sprintf("virtual machines use portgroup %s", group))
	}
	if users := interfacesIn(c, g.Name); users != nil {
		return output{}, busy(fmt.Sprintf("portgroup %s already has the VMkernel interface %s", group, users[0]))
	}
	v := host.Interface{Name: name, Portgroup: group, MTU: 1500, Tags: []string{}, Port: nextPort(c)}
	v.IPv4, v.IPv6 = host.IPv4{Type: "none"}, host.IPv6{Enabled: true, RouterAdvertise: true, Addresses: []string{}}
	if v.MAC, err = newMAC(c, w); err != nil {
		return output{}, err
	}
	if c.has("mtu") {
		v.MTU = c.num("mtu")
		if err := checkMTU(v.MTU); err != nil {
			return output{}, err
		}
	}
	c.State.Interfaces = append(c.State.Interfaces, v)
	slices.SortStableFunc(c.State.Interfaces, func(a, b host.Interface) int {
		if len(a.Name) != len(b.Name) {
			return len(a.Name) - len(b.Name)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return output{}, nil
}

func nextPort(c *call) int {
	port := 33554438
	for _, v := range c.State.Interfaces {
		port = max(port, v.Port)
	}
	return port + 2
}

var macForm = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)

// newMAC is the address of a new interface: the one asked for, that of the
// uplink if the host is set to follow it, or one of VMware's.
func newMAC(c *call, w *host.Switch) (string, error) {
	if !c.has("mac-address") {
		if c.State.Settings["/Net/FollowHardwareMac"] == "1" && len(w.Uplinks) > 0 {
			return c.Hardware.NIC(w.Uplinks[0]).MAC, nil
		}
		return c.NewMAC(), nil
	}
	mac := strings.ToLower(c.str("mac-address"))
	switch {
	case !macForm.MatchString(mac) || mac == "00:00:00:00:00:00":
		return "", refuse("Invalid MAC address '%s'", c.str("mac-address"))
	case strings.ContainsAny(mac[1:2], "13579bdf"):
		return "", refuse("Invalid MAC address '%s': it is a multicast address", mac)
	}
	for _, v := range c.State.Interfaces {
		if v.MAC == mac {
			return "", refuse("Duplicate MAC address %s: it is that of %s", mac, v.Name)
		}
	}
	return mac, nil
}

func interfaceRemove(c *call) (output, error) {
	name := c.str("interface-name")
	if !c.has("interface-name") {
		users := interfacesIn(c, c.str("portgroup-name"))
		if users == nil {
			return output{}, refuse("No VMkernel interface in portgroup '%s'", c.str("portgroup-name"))
		}
		name = users[0]
	}
	if c.State.Interface(name) == nil {
		return output{}, refuse("Interface %s does not exist", name)
	}
	before := reachable(c)
	c.State.Interfaces = slices.DeleteFunc(c.State.Interfaces, func(v host.Interface) bool { return v.Name == name })
	dropRoutes(c, before)
	return output{}, nil
}

// reachable are the routes whose gateway an interface reaches.
func reachable(c *call) map[host.Route]bool {
	found := map[host.Route]bool{}
	for _, r := range c.State.Routes {
		found[r] = c.InterfaceFor(addr(r.Gateway)) != ""
	}
	return found
}

// dropRoutes removes the routes that could be used before and have lost their
// interface.
func dropRoutes(c *call, before map[host.Route]bool) {
	after := reachable(c)
	c.State.Routes = slices.DeleteFunc(c.State.Routes, func(r host.Route) bool { return before[r] && !after[r] })
}

func interfaceSet(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	if c.has("mtu") {
		if err := checkMTU(c.num("mtu")); err != nil {
			return output{}, err
		}
		v.MTU = c.num("mtu")
	}
	if c.has("enabled") {
		v.Disabled = !c.truth("enabled")
	}
	return output{}, nil
}

// tags that ESXi knows; two came with 7.0.
var tags = []string{"Management", "VMotion", "VSAN", "VSANWitness", "faultToleranceLogging", "vSphereProvisioning", "vSphereReplication", "vSphereReplicationNFC", "vSphereBackupNFC", "PTP"}

func tagGet(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	return one(field{"Tags", v.Tags}), nil
}

func tagAdd(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	tag := c.str("tagname")
	if !slices.Contains(tags, tag) {
		return output{}, refuse("Invalid tag name %s", tag)
	}
	if !slices.Contains(v.Tags, tag) {
		v.Tags = append(v.Tags, tag)
	}
	return output{}, nil
}

func tagRemove(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	tag := c.str("tagname")
	if !slices.Contains(v.Tags, tag) {
		return output{}, refuse("%s does not have the tag %s", v.Name, tag)
	}
	v.Tags = slices.DeleteFunc(v.Tags, func(t string) bool { return t == tag })
	return output{}, nil
}
