package kickstart

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

var (
	vmnic = regexp.MustCompile(`^vmnic[0-9]{1,3}$`)
	mac   = regexp.MustCompile(`^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$`)
)

func (l *linter) checkNetwork(s statement) {
	proto, given := s.option("--bootproto")
	switch proto.value {
	case "dhcp":
		l.checkDHCP(s)
	case "static":
		l.checkStatic(s)
	case "":
		if !given {
			l.warnf(s.at, "network does not say how the address is found; add --bootproto=dhcp")
		}
	default:
		l.errorf(s.at, "--bootproto=%s is neither dhcp nor static; write --bootproto=dhcp", show(proto.value))
	}

	if dev, ok := s.option("--device"); ok && dev.value != "" && dev.value != "vmnic0" {
		switch {
		case vmnic.MatchString(dev.value):
			l.errorf(s.at, "the build VM has only vmnic0, and the installer would wait for %s for ever; write --device=vmnic0", dev.value)
		case mac.MatchString(dev.value):
			l.errorf(s.at, "--device names the network card of another machine, and the installer would wait for it for ever; write --device=vmnic0")
		default:
			l.errorf(s.at, "--device=%s is neither a vmnic nor a MAC address; write --device=vmnic0", show(dev.value))
		}
	}
	l.checkAddresses(s)
	if vlan, ok := s.option("--vlanid"); ok && vlan.value != "" {
		n, err := strconv.Atoi(vlan.value)
		switch {
		case err != nil || n < 0 || n > 4096:
			l.errorf(s.at, "--vlanid=%s is not a VLAN number; write a number from 0 to 4095", show(vlan.value))
		case n == 4096:
			l.warnf(s.at, "--vlanid=4096 is in the documentation's range, but 4095 is the highest that port groups take; write a number from 0 to 4095")
		}
	}
	if pg, ok := s.option("--addvmportgroup"); ok && pg.value != "" && pg.value != "0" && pg.value != "1" {
		l.errorf(s.at, "--addvmportgroup=%s is neither 0 nor 1; write --addvmportgroup=0 or --addvmportgroup=1", show(pg.value))
	}
}

func (l *linter) checkDHCP(s statement) {
	for _, name := range []string{"--ip", "--netmask", "--gateway"} {
		if s.has(name) {
			l.errorf(s.at, "%s is not allowed with --bootproto=dhcp; delete it", name)
		}
	}
	for _, name := range []string{"--hostname", "--nameserver"} {
		if s.has(name) {
			l.installerWarnf(s.at, "%s has no effect with --bootproto=dhcp; delete it", name)
		}
	}
}

func (l *linter) checkStatic(s statement) {
	if !s.has("--ip") {
		l.errorf(s.at, "--bootproto=static needs --ip; write --bootproto=dhcp, the host gets its address from MAAS when it is deployed")
	}
	for _, name := range []string{"--netmask", "--gateway"} {
		if !s.has(name) {
			l.installerWarnf(s.at, "%s is missing, the installer computes one from the address; write --bootproto=dhcp", name)
		}
	}
	l.warnf(s.at, "every host deployed from this image starts with the same static address; write --bootproto=dhcp, the host gets its address from MAAS when it is deployed")
}

// checkAddresses checks the form of all addresses; the installer takes IPv4 only.
func (l *linter) checkAddresses(s statement) {
	for _, name := range []string{"--ip", "--netmask", "--gateway", "--nameserver"} {
		a, _ := s.option(name)
		if a.value == "" {
			continue
		}
		servers := strings.Split(a.value, ",")
		if name != "--nameserver" {
			servers = []string{a.value}
		}
		for _, server := range servers {
			ip, err := netip.ParseAddr(strings.TrimSpace(server))
			if err != nil || !ip.Is4() {
				l.errorf(s.at, "%s=%s is not an IPv4 address; write four numbers with dots between them", name, show(a.value))
				break
			}
			if name == "--netmask" && !contiguous(ip) {
				l.errorf(s.at, "--netmask=%s is not a network mask; write one such as 255.255.255.0", show(a.value))
			}
		}
	}
}

// contiguous tells whether mask is a run of ones and then zeros.
func contiguous(mask netip.Addr) bool {
	b := mask.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return ^n&(^n+1) == 0
}
