package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Lease is what a vmk got from a DHCP server.
type Lease struct {
	Prefix  netip.Prefix
	Gateway string
	DNS     []string
}

// Wires are the subnets that a port group's interfaces are connected to: those
// of its active uplinks with a link.
func (m *Machine) Wires(portgroup string) []Wire {
	w, g := m.State.Portgroup(portgroup)
	if g == nil {
		return nil
	}
	var wires []Wire
	for _, nic := range m.liveUplinks(w, g) {
		if len(nic.Wire) == 0 {
			return []Wire{{VLAN: g.VLAN}}
		}
		for _, wire := range nic.Wire {
			if wire.VLAN == g.VLAN {
				wires = append(wires, wire)
			}
		}
	}
	return wires
}

// liveUplinks are the NICs that a port group's traffic may take now.
func (m *Machine) liveUplinks(w *Switch, g *Portgroup) []*NIC {
	teaming := &w.Teaming
	if g.Teaming != nil {
		teaming = g.Teaming
	}
	for _, names := range [][]string{teaming.Active, teaming.Standby} {
		var live []*NIC
		for _, name := range names {
			if nic := m.Hardware.NIC(name); nic != nil && !nic.Down && slices.Contains(w.Uplinks, name) {
				live = append(live, nic)
			}
		}
		if live != nil {
			return live
		}
	}
	return nil
}

// Lease returns what a vmk with DHCP has got; nil if it has none, or not yet.
func (m *Machine) Lease(v *Interface) *Lease {
	asked := time.UnixMilli(m.Runtime.LeasesMS[v.Name])
	if v.Disabled || m.Now.Before(asked.Add(time.Duration(m.Hardware.DHCPAnswerMS)*time.Millisecond)) {
		return nil
	}
	for _, w := range m.Wires(v.Portgroup) {
		subnet, err := netip.ParsePrefix(w.Subnet)
		if err != nil || w.DHCP == "" || !subnet.Addr().Is4() {
			continue
		}
		if a, err := netip.ParseAddr(w.DHCP); err == nil {
			return &Lease{netip.PrefixFrom(a, subnet.Bits()), w.Gateway, w.DNS}
		}
	}
	return nil
}

// IPv4Address is the address that a vmk has now; the zero Prefix if it has none.
func (m *Machine) IPv4Address(v *Interface) netip.Prefix {
	switch v.IPv4.Type {
	case "dhcp":
		if l := m.Lease(v); l != nil {
			return l.Prefix
		}
	case "static":
		a, err := netip.ParseAddr(v.IPv4.Address)
		if err == nil {
			return netip.PrefixFrom(a, MaskBits(v.IPv4.Netmask))
		}
	}
	return netip.Prefix{}
}

// Addresses are all addresses that a vmk has now.
func (m *Machine) Addresses(v *Interface) []netip.Prefix {
	var list []netip.Prefix
	if p := m.IPv4Address(v); p.IsValid() {
		list = append(list, p)
	}
	if m.State.IPv6Off || !v.IPv6.Enabled {
		return list
	}
	list = append(list, linkLocal(v.MAC))
	for _, text := range v.IPv6.Addresses {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// MaskBits is the prefix length of a netmask, -1 if it is none.
func MaskBits(mask string) int {
	a, err := netip.ParseAddr(mask)
	if err != nil || !a.Is4() {
		return -1
	}
	b := a.As4()
	ones, bits := net.IPMask(b[:]).Size()
	if bits == 0 {
		return -1 // there are ones behind a zero
	}
	return ones
}

// ActiveRoute is a route that counts now.
type ActiveRoute struct {
	Network   netip.Prefix // /0 for the default route
	Gateway   netip.Addr   // unspecified for a subnet of the host's own
	Interface string
	Source    string // "MANUAL", "DHCP"
}

// ActiveRoutes are the default routes, then the others: subnets of interfaces,
// what leases bring, and what was added.
func (m *Machine) ActiveRoutes(v6 bool) []ActiveRoute {
	var routes []ActiveRoute
	none := netip.IPv4Unspecified()
	if v6 {
		none = netip.IPv6Unspecified()
	}
	for i := range m.State.Interfaces {
		v := &m.State.Interfaces[i]
		for _, p := range m.Addresses(v) {
			if p.Addr().Is6() == v6 {
				routes = append(routes, ActiveRoute{p.Masked(), none, v.Name, "MANUAL"})
			}
		}
		if l := m.Lease(v); !v6 && v.IPv4.Type == "dhcp" && l != nil {
			if g, err := netip.ParseAddr(l.Gateway); err == nil && !m.hasDefault() {
				routes = append(routes, ActiveRoute{netip.PrefixFrom(none, 0), g, v.Name, "DHCP"})
			}
		}
	}
	for _, r := range m.State.Routes {
		g, err := netip.ParseAddr(r.Gateway)
		if err != nil || r.IPv6 != v6 {
			continue
		}
		n := netip.PrefixFrom(none, 0)
		if r.Network != "default" {
			n = netip.MustParsePrefix(r.Network) // checked when it was added
		}
		routes = append(routes, ActiveRoute{n, g, m.InterfaceFor(g), "MANUAL"})
	}
	slices.SortStableFunc(routes, func(a, b ActiveRoute) int { return min(a.Network.Bits(), 1) - min(b.Network.Bits(), 1) })
	return routes
}

// hasDefault: a default route that was added replaces the one of a lease.
func (m *Machine) hasDefault() bool {
	return slices.ContainsFunc(m.State.Routes, func(r Route) bool { return r.Network == "default" && !r.IPv6 })
}

// InterfaceFor is the vmk that has an address in the subnet of another; "" if none has.
func (m *Machine) InterfaceFor(a netip.Addr) string {
	for i := range m.State.Interfaces {
		v := &m.State.Interfaces[i]
		for _, p := range m.Addresses(v) {
			if p.Masked().Contains(a.WithZone("")) {
				return v.Name
			}
		}
	}
	return ""
}

// NameServers are those set by hand, then those of leases.
func (m *Machine) NameServers() []string {
	list := slices.Clone(m.State.DNS.Servers)
	for i := range m.State.Interfaces {
		v := &m.State.Interfaces[i]
		l := m.Lease(v)
		if v.IPv4.Type != "dhcp" || !v.IPv4.PeerDNS || l == nil {
			continue
		}
		for _, s := range l.DNS {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// Reach says why the host cannot open a TCP connection to an address; nil if it
// can, as far as the host's own configuration and the wires decide.
func (m *Machine) Reach(to netip.AddrPort) error {
	if !m.allowsOut(to) {
		return fmt.Errorf("the firewall has no enabled ruleset for TCP to port %d", to.Port())
	}
	var best *ActiveRoute
	routes := m.ActiveRoutes(to.Addr().Is6())
	for i, r := range routes {
		if r.Network.Contains(to.Addr()) && r.Interface != "" && (best == nil || r.Network.Bits() > best.Network.Bits()) {
			best = &routes[i]
		}
	}
	if best == nil {
		return fmt.Errorf("no route to %s", to.Addr())
	}
	next := to.Addr()
	if !best.Gateway.IsUnspecified() {
		next = best.Gateway
	}
	v := m.State.Interface(best.Interface)
	if v.Disabled {
		return fmt.Errorf("%s is disabled", v.Name)
	}
	for _, w := range m.Wires(v.Portgroup) {
		if w.Subnet == "" {
			return nil // whatever there is, is there
		}
		subnet, err := netip.ParsePrefix(w.Subnet)
		if err == nil && subnet.Contains(next) && (next == to.Addr() || w.Gateway == next.String()) {
			return nil
		}
	}
	return fmt.Errorf("%s is not on a wire of port group %s", next, v.Portgroup)
}
