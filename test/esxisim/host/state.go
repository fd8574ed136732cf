package host

import (
	"fmt"
	"slices"
	"strings"
)

// State is what is configured on a host. The same calls on the same hardware
// make the same state: what is random on a real host follows from the
// hardware's name.
type State struct {
	Version string `json:"version"` // "8.0.3"
	Build   string `json:"build"`

	Hostname    string            `json:"hostname"` // without the domain
	Domain      string            `json:"domain"`
	UUID        string            `json:"uuid"` // of the system
	Certificate Certificate       `json:"certificate"`
	DNS         DNS               `json:"dns"`
	NTP         NTP               `json:"ntp"`
	Switches    []Switch          `json:"vswitches"`
	Interfaces  []Interface       `json:"vmks"`
	Routes      []Route           `json:"routes"` // those that were added; subnets and leases bring their own
	IPv6Off     bool              `json:"ipv6_off,omitempty"`
	Firewall    Firewall          `json:"firewall"`
	Disks       []DiskState       `json:"disks"`
	Volumes     []Volume          `json:"volumes"`
	Services    []Service         `json:"services"`
	Users       []User            `json:"users"`
	Settings    map[string]string `json:"settings"` // advanced ones that differ from their default
	Kernel      map[string]string `json:"kernel_settings,omitempty"`
	SSH         map[string]string `json:"ssh_server,omitempty"` // sshd options of 8.0 and later
	Maintenance bool              `json:"maintenance"`
	Stopped     string            `json:"stopped,omitempty"` // "reboot", "poweroff": asked for
	Welcome     string            `json:"welcome,omitempty"`
	Syslog      map[string]string `json:"syslog,omitempty"`
	Unsaved     bool              `json:"unsaved"` // changes since auto-backup.sh, lost if the power fails now
	Log         []string          `json:"log,omitempty"`
}

// Certificate is the host's TLS certificate, kept in /etc/vmware/ssl.
type Certificate struct {
	CommonName string `json:"common_name"`
	Generation int    `json:"generation"` // 0: the installation's
}

// DNS is what was set by hand; leases add their own.
type DNS struct {
	Servers []string `json:"servers"`
	Search  []string `json:"search"`
}

// NTP is the configuration of the time service from 7.0 on. For 6.x it is what
// ntpd found in /etc/ntp.conf when it was started last, and whether it runs and
// will after a restart.
type NTP struct {
	Enabled bool     `json:"enabled"`
	Servers []string `json:"servers"`
}

// Switch is a standard vSwitch.
type Switch struct {
	Name       string      `json:"name"`
	MTU        int         `json:"mtu"`
	Uplinks    []string    `json:"uplinks"`
	Teaming    Teaming     `json:"teaming"`
	Portgroups []Portgroup `json:"portgroups"`
	Ports      int         `json:"ports"`
	CDP        string      `json:"cdp,omitempty"` // "" is listen
}

// Teaming is how a vSwitch uses its uplinks.
type Teaming struct {
	LoadBalancing string   `json:"load_balancing"` // "portid", "iphash", "mac", "explicit"
	Active        []string `json:"active"`
	Standby       []string `json:"standby,omitempty"`
	Detection     string   `json:"detection,omitempty"` // "" is link; "beacon"
	NoNotify      bool     `json:"no_notify,omitempty"`
	NoFailback    bool     `json:"no_failback,omitempty"`
}

// Portgroup is a port group of a vSwitch.
type Portgroup struct {
	Name    string   `json:"name"`
	VLAN    int      `json:"vlan"`
	Teaming *Teaming `json:"teaming,omitempty"` // its own, where it overrides the switch's
	VMs     int      `json:"vms,omitempty"`     // ports that virtual machines use
}

// Interface is a VMkernel interface.
type Interface struct {
	Name      string   `json:"name"`
	Portgroup string   `json:"portgroup"`
	MAC       string   `json:"mac"`
	MTU       int      `json:"mtu"`
	Disabled  bool     `json:"disabled,omitempty"`
	IPv4      IPv4     `json:"ipv4"`
	IPv6      IPv6     `json:"ipv6"`
	Tags      []string `json:"tags"` // "Management", ...
	Port      int      `json:"port"`
}

// IPv4 is the configuration of an interface. Type is "dhcp", "static" or "none".
type IPv4 struct {
	Type    string `json:"type"`
	Address string `json:"address,omitempty"` // static
	Netmask string `json:"netmask,omitempty"`
	Gateway string `json:"gateway,omitempty"` // the interface's own, with -g before 9.0
	PeerDNS bool   `json:"peer_dns,omitempty"`
}

// IPv6 is the configuration of an interface.
type IPv6 struct {
	Enabled         bool     `json:"enabled"`
	DHCP            bool     `json:"dhcp"`
	RouterAdvertise bool     `json:"router_advertisements"`
	PeerDNS         bool     `json:"peer_dns,omitempty"`
	Addresses       []string `json:"addresses"` // with prefix length
	Gateway         string   `json:"gateway,omitempty"`
}

// Route is a static route.
type Route struct {
	Network string `json:"network"` // "10.0.0.0/8", "2001:db8::/32", "default"
	Gateway string `json:"gateway"`
	IPv6    bool   `json:"ipv6,omitempty"`
}

// Firewall is the host's firewall.
type Firewall struct {
	Enabled bool                `json:"enabled"`
	Pass    bool                `json:"pass,omitempty"`    // the default action is PASS, not DROP
	Changed map[string]bool     `json:"changed,omitempty"` // rulesets that come with ESXi and are not as installed
	Allowed map[string][]string `json:"allowed,omitempty"` // addresses per ruleset, where not all
	Custom  []Ruleset           `json:"custom,omitempty"`  // from files in /etc/vmware/firewall
}

// DiskState is a disk's partition table.
type DiskState struct {
	Name  string `json:"name"`
	Linux string `json:"linux"`
	Table Table  `json:"table"`
}

// Volume is a file system.
type Volume struct {
	Label     string   `json:"label"`
	UUID      string   `json:"uuid"`
	Type      string   `json:"type"` // "VMFS-6", "VMFS-5", "VMFSOS", "VFFS", "VMFS-L", "vfat"
	Unmounted bool     `json:"unmounted,omitempty"`
	Size      int64    `json:"size"`    // bytes
	Used      int64    `json:"used"`    // bytes
	Extents   []Extent `json:"extents"` // the first is the head
}

// Service is a daemon with a policy. As text it is "ntpd: running, on".
type Service struct {
	Name    string
	Running bool
	OnBoot  bool
}

// MarshalText writes the service on one line.
func (s Service) MarshalText() ([]byte, error) {
	running, policy := "stopped", "off"
	if s.Running {
		running = "running"
	}
	if s.OnBoot {
		policy = "on"
	}
	return fmt.Appendf(nil, "%s: %s, %s", s.Name, running, policy), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *Service) UnmarshalText(text []byte) error {
	name, state, ok := strings.Cut(string(text), ": ")
	running, policy, _ := strings.Cut(state, ", ")
	if !ok {
		return fmt.Errorf("%q is no service", text)
	}
	*s = Service{name, running == "running", policy == "on"}
	return nil
}

// User is a local account.
type User struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Role        string `json:"role,omitempty"` // "Admin", "ReadOnly", "NoAccess"
	Password    string `json:"password_sha256,omitempty"`
	Shell       bool   `json:"shell"`
}

// Runtime is what a reboot would forget, and counters.
type Runtime struct {
	BootedMS  int64            `json:"booted_ms"`         // Unix time
	HostdMS   int64            `json:"hostd_ms"`          // when hostd was last started
	LeasesMS  map[string]int64 `json:"leases_ms"`         // when a vmk asked for a lease
	Faults    map[string]int   `json:"faults"`            // how often each was met
	SkewMS    int64            `json:"skew_ms,omitempty"` // the clock is wrong by that much
	Generated int              `json:"generated"`         // of identities made so far
}

// Switch returns the vSwitch of that name, nil if there is none.
func (s *State) Switch(name string) *Switch {
	i := slices.IndexFunc(s.Switches, func(w Switch) bool { return w.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Switches[i]
}

// Portgroup returns the port group of that name and its vSwitch, nil if there
// is none.
func (s *State) Portgroup(name string) (*Switch, *Portgroup) {
	for i := range s.Switches {
		for j := range s.Switches[i].Portgroups {
			if g := &s.Switches[i].Portgroups[j]; g.Name == name {
				return &s.Switches[i], g
			}
		}
	}
	return nil, nil
}

// Interface returns the vmk of that name, nil if there is none.
func (s *State) Interface(name string) *Interface {
	i := slices.IndexFunc(s.Interfaces, func(v Interface) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Interfaces[i]
}

// UplinkOwner returns the vSwitch that a NIC is an uplink of, nil if none.
func (s *State) UplinkOwner(nic string) *Switch {
	i := slices.IndexFunc(s.Switches, func(w Switch) bool { return slices.Contains(w.Uplinks, nic) })
	if i < 0 {
		return nil
	}
	return &s.Switches[i]
}

// Volume returns the volume with that label or UUID, nil if there is none.
func (s *State) Volume(name string) *Volume {
	i := slices.IndexFunc(s.Volumes, func(v Volume) bool { return v.Label == name || v.UUID == name })
	if i < 0 {
		return nil
	}
	return &s.Volumes[i]
}

// Service returns the service of that name, nil if there is none.
func (s *State) Service(name string) *Service {
	i := slices.IndexFunc(s.Services, func(v Service) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Services[i]
}

// User returns the account of that name, nil if there is none.
func (s *State) User(name string) *User {
	i := slices.IndexFunc(s.Users, func(v User) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Users[i]
}

// FQDN is the host's full name.
func (s *State) FQDN() string {
	if s.Domain == "" {
		return s.Hostname
	}
	return s.Hostname + "." + s.Domain
}
