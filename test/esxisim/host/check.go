package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/esxid/esxid/test/esxisim"
)

// Check reports everything about the host's configuration that no deployed host
// should have, whatever it was meant to be: nil if it is consistent.
func (h *Host) Check() error {
	m, err := h.Machine()
	if err != nil {
		return err
	}
	return errors.Join(slices.Concat(m.checkManagement(), m.checkNetwork(), m.checkStorage(), m.checkLeftovers())...)
}

func (m *Machine) checkManagement() (problems []error) {
	managed := false
	for i := range m.State.Interfaces {
		v := &m.State.Interfaces[i]
		if !slices.Contains(v.Tags, "Management") {
			continue
		}
		managed = true
		w, g := m.State.Portgroup(v.Portgroup)
		if g == nil {
			continue // checkNetwork says so
		}
		if len(m.liveUplinks(w, g)) == 0 {
			problems = append(problems, fmt.Errorf("management interface %s has no uplink with a link", v.Name))
		}
		if !slices.ContainsFunc(m.Addresses(v), isGlobal) && v.IPv4.Type != "dhcp" && !v.IPv6.DHCP {
			problems = append(problems, fmt.Errorf("management interface %s has no address", v.Name))
		}
	}
	if !managed {
		problems = append(problems, errors.New("no interface is tagged for management"))
	}
	return problems
}

func (m *Machine) checkNetwork() (problems []error) {
	macs, uplinks := map[string]string{}, map[string]string{}
	for i := range m.State.Interfaces {
		v := &m.State.Interfaces[i]
		w, g := m.State.Portgroup(v.Portgroup)
		if g == nil {
			problems = append(problems, fmt.Errorf("%s is in port group %q, which does not exist", v.Name, v.Portgroup))
		} else if v.MTU > w.MTU {
			problems = append(problems, fmt.Errorf("%s has an MTU of %d, its vSwitch one of %d", v.Name, v.MTU, w.MTU))
		}
		if other := macs[v.MAC]; other != "" {
			problems = append(problems, fmt.Errorf("%s and %s have the MAC address %s", other, v.Name, v.MAC))
		}
		if v.MAC == buildMAC {
			problems = append(problems, fmt.Errorf("%s has the MAC address of the machine the image was made on", v.Name))
		}
		macs[v.MAC] = v.Name
	}
	for _, w := range m.State.Switches {
		for _, nic := range w.Uplinks {
			if uplinks[nic] != "" {
				problems = append(problems, fmt.Errorf("%s is an uplink of %s and of %s", nic, uplinks[nic], w.Name))
			}
			uplinks[nic] = w.Name
		}
		for _, nic := range slices.Concat(w.Teaming.Active, w.Teaming.Standby) {
			if !slices.Contains(w.Uplinks, nic) {
				problems = append(problems, fmt.Errorf("%s is in the teaming of %s, but no uplink of it", nic, w.Name))
			}
		}
	}
	for _, r := range slices.Concat(m.ActiveRoutes(false), m.ActiveRoutes(true)) {
		if r.Interface == "" {
			problems = append(problems, fmt.Errorf("the route to %s has a gateway, %s, that no interface reaches", r.Network, r.Gateway))
		}
	}
	return problems
}

func (m *Machine) checkStorage() (problems []error) {
	labels := map[string]bool{}
	for _, v := range m.State.Volumes {
		if v.Label != "" && labels[v.Label] {
			problems = append(problems, fmt.Errorf("there are two volumes %q", v.Label))
		}
		labels[v.Label] = true
		for _, e := range v.Extents {
			_, p, err := m.Node(fmt.Sprintf("%s:%d", e.Disk, e.Partition))
			switch {
			case err != nil:
				problems = append(problems, fmt.Errorf("volume %q: %w", v.Label, err))
			case e.Sectors > p.Sectors():
				problems = append(problems, fmt.Errorf("volume %q is larger than partition %d of %s", v.Label, e.Partition, e.Disk))
			}
		}
	}
	for _, s := range m.State.Disks {
		for i, p := range s.Table.Partitions {
			if i > 0 && p.First <= s.Table.Partitions[i-1].Last {
				problems = append(problems, fmt.Errorf("partition %d of %s overlaps", p.Number, s.Name))
			}
			if p.Type == esxisim.TypeVMFS && m.VolumeOn(s.Name, p.Number) == nil {
				problems = append(problems, fmt.Errorf("partition %d of %s is for VMFS and has no volume", p.Number, s.Name))
			}
		}
	}
	return problems
}

// checkLeftovers finds what was meant for the first boot only.
func (m *Machine) checkLeftovers() (problems []error) {
	for _, r := range m.State.Firewall.Custom {
		problems = append(problems, fmt.Errorf("firewall ruleset %s is still there", r.Name))
	}
	if !m.State.Firewall.Enabled || m.State.Firewall.Pass {
		problems = append(problems, errors.New("the firewall is off"))
	}
	if s := m.State.Service("ntpd"); s != nil && s.Running && !m.ruleset("ntpClient").Enabled {
		problems = append(problems, errors.New("ntpd runs, but the firewall keeps its packets in"))
	}
	for _, u := range m.State.Users {
		if !slices.Contains([]string{"root", "dcui", "vpxuser"}, u.Name) {
			problems = append(problems, fmt.Errorf("account %s is still there", u.Name))
		}
	}
	if m.State.Unsaved {
		problems = append(problems, errors.New("there are changes that a power failure would undo: auto-backup.sh was not run after the last one"))
	}
	if m.State.Certificate.CommonName != m.State.FQDN() {
		problems = append(problems, fmt.Errorf("the certificate is for %s, the host is %s", m.State.Certificate.CommonName, m.State.FQDN()))
	}
	return problems
}

func isGlobal(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() }
