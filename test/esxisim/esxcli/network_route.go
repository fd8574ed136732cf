package esxcli

import (
	"net/netip"
	"slices"

	"github.com/esxid/esxid/test/esxisim/host"
)

func routeCommands() []command {
	options := []option{
		need("g", "gateway", "The next hop."), need("n", "network", "The network with its prefix length, or default."), may("N", "netstack", text, "The netstack."),
	}
	var all []command
	for _, family := range []struct {
		name string
		v6   bool
	}{{"ipv4", false}, {"ipv6", true}} {
		base := "network ip route " + family.name + " "
		all = append(all,
			command{path: base + "list", text: "List the routes.", options: options[2:], run: func(c *call) (output, error) { return routeList(c, family.v6), nil }},
			command{path: base + "add", text: "Add a route.", options: options, run: func(c *call) (output, error) {
				r, err := route(c, family.v6)
				if err != nil {
					return output{}, err
				}
				return output{}, addRoute(c, r)
			}},
			command{path: base + "remove", text: "Remove a route.", options: options, run: func(c *call) (output, error) {
				r, err := route(c, family.v6)
				if err != nil {
					return output{}, err
				}
				return output{}, removeRoute(c, r)
			}},
		)
	}
	return all
}

func routeList(c *call, v6 bool) output {
	if v6 {
		o := table("Network", ">Netmask", "Gateway", "Interface", "Source")
		for _, r := range c.ActiveRoutes(true) {
			name := r.Network.Addr().String()
			if r.Network.Bits() == 0 {
				name = "default"
			}
			o.add(name, r.Network.Bits(), r.Gateway.String(), r.Interface, r.Source)
		}
		return o
	}
	o := table("Network", "Netmask", "Gateway", "Interface", "Source")
	for _, r := range c.ActiveRoutes(false) {
		name := r.Network.Addr().String()
		if r.Network.Bits() == 0 {
			name = "default"
		}
		o.add(name, netmask(r.Network.Bits()), r.Gateway.String(), r.Interface, r.Source)
	}
	return o
}

// route reads a route. The network's address may have bits behind its prefix,
// which are dropped.
func route(c *call, v6 bool) (host.Route, error) {
	r := host.Route{Network: c.str("network"), IPv6: v6}
	g := addr(c.str("gateway"))
	if !g.IsValid() || g.Is6() != v6 || g.IsUnspecified() {
		return r, refuse("Invalid gateway '%s'", c.str("gateway"))
	}
	r.Gateway = g.String()
	if r.Network == "default" {
		return r, nil
	}
	p, err := netip.ParsePrefix(r.Network)
	if err != nil || p.Addr().Is6() != v6 {
		return r, refuse("Invalid network '%s'", r.Network)
	}
	r.Network = p.Masked().String()
	if p.Bits() == 0 {
		r.Network = "default"
	}
	return r, nil
}

func addRoute(c *call, r host.Route) error {
	for _, o := range c.State.Routes {
		if o.Network == r.Network && o.IPv6 == r.IPv6 {
			return sysinfo("Already exists", "there is a route to "+r.Network+" with the gateway "+o.Gateway)
		}
	}
	for _, o := range c.ActiveRoutes(r.IPv6) {
		if o.Network.String() == r.Network {
			return sysinfo("Already exists", r.Network+" is a network of "+o.Interface)
		}
	}
	if c.InterfaceFor(addr(r.Gateway)) == "" {
		return sysinfo("Network unreachable", "no interface is in the network of the gateway "+r.Gateway)
	}
	c.State.Routes = append(c.State.Routes, r)
	return nil
}

func removeRoute(c *call, r host.Route) error {
	i := slices.Index(c.State.Routes, r)
	if i < 0 {
		return sysinfo("Not found", "there is no route to "+r.Network+" with the gateway "+r.Gateway)
	}
	c.State.Routes = slices.Delete(c.State.Routes, i, i+1)
	return nil
}
