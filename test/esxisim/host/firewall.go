package host

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Ruleset is a named set of firewall rules, switched on and off as one.
type Ruleset struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
	Rules   []Rule `json:"rules"`
}

// Rule allows connections.
type Rule struct {
	Outbound bool `json:"outbound"`
	UDP      bool `json:"udp,omitempty"`
	Source   bool `json:"source,omitempty"` // the ports are those the packets come from
	First    int  `json:"first"`            // port
	Last     int  `json:"last"`
}

func out(first, last int) Rule { return Rule{Outbound: true, First: first, Last: last} }
func in(first, last int) Rule  { return Rule{First: first, Last: last} }
func udp(r Rule) Rule          { r.UDP = true; return r }

// standard are rulesets that come with ESXi, and whether they are on after an
// installation (VMware Ports and Protocols; a selection).
var standard = []Ruleset{
	{"CIMHttpServer", true, []Rule{in(5988, 5988)}},
	{"CIMHttpsServer", true, []Rule{in(5989, 5989)}},
	{"CIMSLP", true, []Rule{udp(in(427, 427)), in(427, 427)}},
	{"DVSSync", true, []Rule{udp(out(8301, 8302)), udp(in(8301, 8302))}},
	{"HBR", true, []Rule{out(31031, 31031), out(44046, 44046)}},
	{"NFC", true, []Rule{in(902, 902), out(902, 902)}},
	{"WOL", true, []Rule{udp(out(9, 9))}},
	{"activeDirectoryAll", false, []Rule{out(88, 88), out(389, 389)}},
	{"dhcp", true, []Rule{udp(in(68, 68)), udp(out(67, 67))}},
	{"dns", true, []Rule{udp(in(53, 53)), udp(out(53, 53)), out(53, 53)}},
	{"esxupdate", false, []Rule{out(443, 443)}},
	{"faultTolerance", true, []Rule{out(80, 80), out(8300, 8300), in(8300, 8300)}},
	{"fdm", false, []Rule{in(8182, 8182), out(8182, 8182)}},
	{"ftpClient", false, []Rule{out(21, 21)}},
	{"gdbserver", false, []Rule{in(1000, 9999)}},
	{"httpClient", false, []Rule{out(80, 80), out(443, 443)}},
	{"iSCSI", false, []Rule{out(3260, 3260)}},
	{"iofiltervp", true, []Rule{in(9080, 9080)}},
	{"nfsClient", false, []Rule{out(0, 65535)}},
	{"ntpClient", false, []Rule{udp(out(123, 123))}},
	{"remoteSerialPort", false, []Rule{out(0, 65535)}},
	{"snmp", true, []Rule{udp(in(161, 161))}},
	{"sshClient", false, []Rule{out(22, 22)}},
	{"sshServer", true, []Rule{in(22, 22)}},
	{"syslog", false, []Rule{udp(out(514, 514)), out(514, 514), out(1514, 1514)}},
	{"updateManager", true, []Rule{out(80, 80), out(9000, 9100)}},
	{"vMotion", true, []Rule{in(8000, 8000), out(8000, 8000)}},
	{"vSphereClient", true, []Rule{in(443, 443), in(902, 902)}},
	{"vpxHeartbeats", true, []Rule{udp(out(902, 902))}},
	{"webAccess", true, []Rule{in(80, 80)}},
}

// Rulesets are all that the firewall knows now.
func (m *Machine) Rulesets() []Ruleset {
	f := &m.State.Firewall
	sets := slices.Clone(standard)
	for i := range sets {
		if on, changed := f.Changed[sets[i].Name]; changed {
			sets[i].Enabled = on
		}
	}
	sets = append(sets, f.Custom...)
	slices.SortFunc(sets, func(a, b Ruleset) int { return strings.Compare(a.Name, b.Name) })
	return sets
}

// ruleset returns the one of that name, an empty one if there is none.
func (m *Machine) ruleset(name string) Ruleset {
	sets := m.Rulesets()
	if i := slices.IndexFunc(sets, func(r Ruleset) bool { return r.Name == name }); i >= 0 {
		return sets[i]
	}
	return Ruleset{}
}

// EnableRuleset switches a ruleset on or off.
func (m *Machine) EnableRuleset(name string, on bool) error {
	f := &m.State.Firewall
	if i := slices.IndexFunc(f.Custom, func(r Ruleset) bool { return r.Name == name }); i >= 0 {
		f.Custom[i].Enabled = on
		return nil
	}
	i := slices.IndexFunc(standard, func(r Ruleset) bool { return r.Name == name })
	if i < 0 {
		return fmt.Errorf("invalid ruleset id %s", name)
	}
	delete(f.Changed, name)
	if standard[i].Enabled != on {
		if f.Changed == nil {
			f.Changed = map[string]bool{}
		}
		f.Changed[name] = on
	}
	return nil
}

// serviceFile is a file in /etc/vmware/firewall.
type serviceFile struct {
	XMLName  xml.Name `xml:"ConfigRoot"`
	Services []struct {
		Name  string `xml:"id"`
		Rules []struct {
			Direction string  `xml:"direction"`
			Protocol  string  `xml:"protocol"`
			PortType  string  `xml:"porttype"`
			Port      portXML `xml:"port"`
		} `xml:"rule"`
		Enabled  string `xml:"enabled"`
		Required string `xml:"required"`
	} `xml:"service"`
}

// portXML is a port, or a range of them with <begin> and <end>.
type portXML struct {
	Text  string `xml:",chardata"`
	Begin int    `xml:"begin"`
	End   int    `xml:"end"`
}

// RefreshFirewall reads the files in /etc/vmware/firewall again. One that it
// cannot use is skipped and reported. What was switched by hand stays switched.
func (m *Machine) RefreshFirewall() error {
	paths, err := filepath.Glob(m.Path("etc/vmware/firewall/*.xml"))
	if err != nil {
		return err
	}
	old := m.State.Firewall.Custom
	m.State.Firewall.Custom = nil
	var problems []string
	for _, path := range paths {
		sets, err := readRulesets(path)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", filepath.Base(path), err))
			continue
		}
		for _, r := range sets {
			if i := slices.IndexFunc(old, func(o Ruleset) bool { return o.Name == r.Name }); i >= 0 {
				r.Enabled = old[i].Enabled
			}
			m.State.Firewall.Custom = append(m.State.Firewall.Custom, r)
		}
	}
	if problems != nil {
		return fmt.Errorf("unable to load firewall rules: %s", strings.Join(problems, "; "))
	}
	return nil
}

func readRulesets(path string) ([]Ruleset, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file serviceFile
	if err := xml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	var sets []Ruleset
	for _, s := range file.Services {
		r := Ruleset{Name: strings.TrimSpace(s.Name), Enabled: strings.TrimSpace(s.Enabled) == "true"}
		if r.Name == "" || slices.ContainsFunc(standard, func(o Ruleset) bool { return o.Name == r.Name }) {
			return nil, fmt.Errorf("service id %q is empty or taken", r.Name)
		}
		for _, x := range s.Rules {
			rule := Rule{Outbound: x.Direction == "outbound", UDP: x.Protocol == "udp", Source: x.PortType == "src", First: x.Port.Begin, Last: x.Port.End}
			if rule.First == 0 {
				if _, err := fmt.Sscan(strings.TrimSpace(x.Port.Text), &rule.First); err != nil {
					return nil, fmt.Errorf("rule without a port")
				}
				rule.Last = rule.First
			}
			if x.Direction != "inbound" && !rule.Outbound || x.Protocol != "tcp" && !rule.UDP || x.PortType != "dst" && !rule.Source || rule.Last > 65535 {
				return nil, fmt.Errorf("rule with direction %q, protocol %q, port type %q", x.Direction, x.Protocol, x.PortType)
			}
			r.Rules = append(r.Rules, rule)
		}
		sets = append(sets, r)
	}
	return sets, nil
}

// allowsOut reports whether the firewall lets TCP connections out to that port.
func (m *Machine) allowsOut(to netip.AddrPort) bool {
	f := &m.State.Firewall
	if !f.Enabled || f.Pass {
		return true
	}
	for _, r := range m.Rulesets() {
		if allowed, limited := f.Allowed[r.Name]; !r.Enabled || limited && !contains(allowed, to.Addr()) {
			continue
		}
		for _, rule := range r.Rules {
			if rule.Outbound && !rule.UDP && !rule.Source && rule.First <= int(to.Port()) && int(to.Port()) <= rule.Last {
				return true
			}
		}
	}
	return false
}

func contains(list []string, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(text string) bool {
		if p, err := netip.ParsePrefix(text); err == nil {
			return p.Contains(a)
		}
		b, err := netip.ParseAddr(text)
		return err == nil && a == b
	})
}
