package esxcli

import (
	"net/netip"
	"slices"
)

func ipv6Commands() []command {
	name := need("i", "interface-name", "The VMkernel interface.")
	only := may("i", "interface-name", text, "Only this one.")
	address := need("I", "ipv6", "The address with its prefix length.")
	base := "network ip interface ipv6 "
	return []command{
		{path: base + "get", text: "Show IPv6 of the interfaces.", options: []option{only}, run: ipv6Get},
		{path: base + "set", text: "Configure IPv6 of an interface.", options: []option{
			name, may("e", "enable-ipv6", truth, "IPv6 on this interface."), may("d", "enable-dhcpv6", truth, "Addresses by DHCPv6."),
			may("r", "enable-router-adv", truth, "Addresses by router advertisements."), may("P", "peer-dns", truth, "Name servers by DHCPv6."),
			may("g", "gateway", text, "The gateway."),
		}, run: ipv6Set},
		{path: base + "address list", text: "List the IPv6 addresses.", options: []option{only}, run: ipv6List},
		{path: base + "address add", text: "Add an IPv6 address.", options: []option{name, address}, run: ipv6Add},
		{path: base + "address remove", text: "Remove an IPv6 address.", options: []option{name, address}, run: ipv6Remove},
	}
}

func ipv6Get(c *call) (output, error) {
	o := table("Name", ">IPv6 Enabled", ">DHCPv6 Enabled", ">Router Adv Enabled", ">DHCP DNS", "Gateway")
	for _, v := range c.State.Interfaces {
		gateway := v.IPv6.Gateway
		if gateway == "" {
			gateway = "::"
		}
		if !c.has("interface-name") || v.Name == c.str("interface-name") {
			o.add(v.Name, v.IPv6.Enabled && !c.State.IPv6Off, v.IPv6.DHCP, v.IPv6.RouterAdvertise, v.IPv6.PeerDNS, gateway)
		}
	}
	return o, nil
}

func ipv6Set(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	for option, to := range map[string]*bool{
		"enable-ipv6": &v.IPv6.Enabled, "enable-dhcpv6": &v.IPv6.DHCP, "enable-router-adv": &v.IPv6.RouterAdvertise, "peer-dns": &v.IPv6.PeerDNS,
	} {
		if c.has(option) {
			*to = c.truth(option)
		}
	}
	if c.has("gateway") {
		if g := addr(c.str("gateway")); !g.Is6() {
			return output{}, refuse("Invalid gateway '%s'", c.str("gateway"))
		}
		v.IPv6.Gateway = c.str("gateway")
	}
	return output{}, nil
}

func ipv6List(c *call) (output, error) {
	o := table("Interface", "Address", ">Netmask", "Type", "Status")
	for i := range c.State.Interfaces {
		v := &c.State.Interfaces[i]
		if c.has("interface-name") && v.Name != c.str("interface-name") {
			continue
		}
		for _, p := range c.Addresses(v) {
			if p.Addr().Is6() {
				o.add(v.Name, p.Addr().String(), p.Bits(), "STATIC", "PREFERRED")
			}
		}
	}
	return o, nil
}

// prefix reads an address with a prefix length.
func prefix(c *call) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(c.str("ipv6"))
	if err != nil || !p.Addr().Is6() || p.Bits() == 0 || p.Addr().IsMulticast() {
		return p, refuse("Invalid IPv6 address '%s': write it with its prefix length", c.str("ipv6"))
	}
	return p, nil
}

func ipv6Add(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	p, err := prefix(c)
	switch {
	case err != nil:
		return output{}, err
	case c.State.IPv6Off || !v.IPv6.Enabled:
		return output{}, refuse("IPv6 is not enabled on %s", v.Name)
	}
	for i := range c.State.Interfaces {
		for _, other := range c.Addresses(&c.State.Interfaces[i]) {
			if other.Addr() == p.Addr() {
				return output{}, sysinfo("Already exists", p.Addr().String()+" is an address of "+c.State.Interfaces[i].Name)
			}
		}
	}
	v.IPv6.Addresses = append(v.IPv6.Addresses, p.String())
	return output{}, nil
}

func ipv6Remove(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	p, err := prefix(c)
	if err != nil {
		return output{}, err
	}
	if !slices.Contains(v.IPv6.Addresses, p.String()) {
		return output{}, sysinfo("Not found", p.String())
	}
	before := reachable(c)
	v.IPv6.Addresses = slices.DeleteFunc(v.IPv6.Addresses, func(a string) bool { return a == p.String() })
	dropRoutes(c, before)
	return output{}, nil
}
