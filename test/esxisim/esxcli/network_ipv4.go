package esxcli

import (
	"net/netip"

	"github.com/esxid/esxid/test/esxisim/host"
)

func ipv4Commands() []command {
	name := need("i", "interface-name", "The VMkernel interface.")
	only := may("i", "interface-name", text, "Only this one.")
	stack := may("N", "netstack", text, "The netstack.")
	base := "network ip interface ipv4 "
	return []command{
		{path: base + "get", text: "Show IPv4 of the interfaces.", options: []option{only, stack}, run: ipv4Get},
		{path: base + "address list", text: "List the IPv4 addresses.", options: []option{only, stack}, run: ipv4Get},
		{path: base + "set", text: "Configure IPv4 of an interface.", options: []option{
			name, {name: "type", short: "t", kind: text, required: true, text: "dhcp, none or static."},
			may("I", "ipv4", text, "The address."), may("N", "netmask", text, "The netmask."), may("g", "gateway", text, "The gateway."),
			may("P", "peer-dns", truth, "Take the name servers of the DHCP server."),
		}, run: ipv4Set},
		{path: "network ip get", text: "Show the IP settings.", options: []option{stack}, run: func(c *call) (output, error) {
			return one(field{"IPv6 Enabled", !c.State.IPv6Off}), nil
		}},
		{path: "network ip set", text: "Change the IP settings.", options: []option{may("e", "ipv6-enabled", truth, "IPv6, from the next boot on.")}, run: func(c *call) (output, error) {
			if c.has("ipv6-enabled") {
				c.State.IPv6Off = !c.truth("ipv6-enabled")
			}
			return output{}, nil
		}},
	}
}

func ipv4Get(c *call) (output, error) {
	if c.has("interface-name") {
		if _, err := vmk(c); err != nil {
			return output{}, err
		}
	}
	o := table("Name", "IPv4 Address", "IPv4 Netmask", "IPv4 Broadcast", "Address Type", "Gateway", ">DHCP DNS")
	for i := range c.State.Interfaces {
		v := &c.State.Interfaces[i]
		if c.has("interface-name") && v.Name != c.str("interface-name") {
			continue
		}
		address, mask, broadcast, gateway := "0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0"
		if p := c.IPv4Address(v); p.IsValid() {
			address, mask, broadcast = p.Addr().String(), netmask(p.Bits()), lastAddr(p).String()
		}
		for _, r := range c.ActiveRoutes(false) {
			if r.Interface == v.Name && r.Network.Bits() == 0 {
				gateway = r.Gateway.String()
			}
		}
		if v.IPv4.Gateway != "" {
			gateway = v.IPv4.Gateway
		}
		kind := map[string]string{"dhcp": "DHCP", "static": "STATIC", "none": "NONE"}[v.IPv4.Type]
		o.add(v.Name, address, mask, broadcast, kind, gateway, v.IPv4.PeerDNS)
	}
	return o, nil
}

func ipv4Set(c *call) (output, error) {
	v, err := vmk(c)
	if err != nil {
		return output{}, err
	}
	before := reachable(c)
	next := host.IPv4{Type: c.str("type"), PeerDNS: c.truth("peer-dns")}
	switch next.Type {
	case "dhcp", "none":
		if c.has("ipv4") || c.has("netmask") {
			return output{}, refuse("An address and a netmask go with the type static only")
		}
	case "static":
		a := addr(c.str("ipv4"))
		if !a.Is4() || a.IsUnspecified() || a.IsMulticast() {
			return output{}, refuse("Invalid IPv4 address '%s'", c.str("ipv4"))
		}
		if bits := host.MaskBits(c.str("netmask")); bits < 1 || bits > 31 {
			return output{}, refuse("Invalid netmask '%s'", c.str("netmask"))
		}
		for i := range c.State.Interfaces {
			if o := &c.State.Interfaces[i]; o.Name != v.Name && c.IPv4Address(o).Addr() == a {
				return output{}, refuse("Duplicate IP address %s: it is that of %s", a, o.Name)
			}
		}
		next.Address, next.Netmask = a.String(), c.str("netmask")
	default:
		return output{}, refuse("Invalid type '%s': use dhcp, none or static", next.Type)
	}
	if c.has("gateway") && !c.AtLeast(9) { // 9.0 takes the option and does nothing with it
		g := addr(c.str("gateway"))
		if !g.Is4() {
			return output{}, refuse("Invalid gateway '%s'", c.str("gateway"))
		}
		next.Gateway = g.String()
	}
	v.IPv4 = next
	c.Runtime.LeasesMS[v.Name] = c.Now.UnixMilli()
	dropRoutes(c, before)
	if next.Gateway != "" && next.Type == "static" {
		return output{}, addRoute(c, host.Route{Network: "default", Gateway: next.Gateway})
	}
	return output{}, nil
}

// addr is the address in a text, the zero Addr if there is none.
func addr(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a
}

func netmask(bits int) string {
	n := uint32(0xffffffff << (32 - bits))
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

// lastAddr is the broadcast address of a network.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}
