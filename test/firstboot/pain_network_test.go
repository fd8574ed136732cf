package firstboot

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

// What users of ESXi on MAAS have run into with the network of their hosts, and
// what happens here.

// withNetwork is a deployment with a network section of these entries. A
// machine has a NIC for each physical interface.
func withNetwork(t *testing.T, version string, entries ...string) *deployment {
	t.Helper()
	d := start(t, "d-flat-default", version)
	d.ok(json.Unmarshal([]byte("["+strings.Join(entries, ",")+"]"), &d.config.Network.Config))
	d.hardware.NICs = d.config.nics()
	return d
}

// physical is an interface; n is the last part of its MAC address. subnets is a
// JSON list.
func physical(n int, subnets string) string {
	return fmt.Sprintf(`{"type": "physical", "id": "eno%[1]d", "name": "eno%[1]d", "mac_address": %[3]q, "mtu": 1500, "subnets": %[2]s}`, n, subnets, mac(n))
}

func mac(n int) string { return fmt.Sprintf("02:00:5e:77:00:%02x", n) }

// bond of eno1 and eno2; more are members that are given, as JSON.
func bond(mode, mac string, more string) string {
	return fmt.Sprintf(`{"type": "bond", "id": "bond0", "name": "bond0", "mac_address": %q, "mtu": 1500, "bond_interfaces": ["eno1", "eno2"%s],
		"params": {"bond-mode": %q}, "subnets": [%s]}`, mac, more, mode, static)
}

const (
	static = `{"type": "static", "address": "10.50.0.21/24", "gateway": "10.50.0.1"}`
	manual = `[{"type": "manual"}]`
)

// isRefused checks that the configuration was refused before anything was changed
// but the address of vmk0.
func (d *deployment) isRefused(reason string) {
	d.t.Helper()
	d.run()
	d.failed(reason)
	d.undone()
	for _, c := range d.commands() {
		if strings.HasPrefix(c, "esxcli network ") && !strings.Contains(c, "vmk0") && c != "esxcli network firewall refresh" {
			d.t.Errorf("the network was changed: %s", c)
		}
	}
}

func (d *deployment) commands() []string {
	d.t.Helper()
	lines, err := d.host.Commands()
	d.ok(err)
	return lines
}

func TestUplinkVmnic1IsNotTakenForVmnic10(t *testing.T) {
	t.Parallel()
	var entries []string
	for n := range 12 {
		entries = append(entries, physical(n, manual))
	}
	team := strings.NewReplacer("eno1", "eno10", "eno2", "eno1").Replace(bond("802.3ad", mac(10), ""))
	d := withNetwork(t, "8.0.3", append(entries, team)...)
	d.run()
	d.deployed()
	if got := d.state().Switches[0].Uplinks; !slices.Equal(got, []string{"vmnic10", "vmnic1"}) {
		t.Errorf("the uplinks of the bond are %q", got)
	}
}

// The old uplink is taken from a vSwitch of any name, and given back after a failure.
func TestVSwitchNameWithDashDotOrBlank(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a-b", "a.b", "a b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prepare := func(h *host.Host) error {
				for _, args := range [][]string{{"add", "-v", name}, {"uplink", "add", "-u", "vmnic1", "-v", name}} {
					if _, err := h.Esxcli(t.Context(), append([]string{"network", "vswitch", "standard"}, args...)...); err != nil {
						return err
					}
				}
				return nil
			}
			d := withNetwork(t, "7.0.3", physical(1, manual), physical(2, manual), bond("802.3ad", mac(1), ""))
			d.prepare = prepare
			d.run()
			d.deployed()
			if owner := d.state().UplinkOwner("vmnic1"); owner == nil || owner.Name != "vSwitch0" {
				t.Errorf("vmnic1 is an uplink of %+v", owner)
			}
			d = withNetwork(t, "7.0.3", physical(1, manual), physical(2, manual), bond("802.3ad", mac(1), ""))
			d.prepare = prepare
			d.hardware.Faults = []host.Fault{{Command: "esxcli network ip interface ipv4 set", Times: 1, Text: busy}}
			d.run()
			d.failed(busy)
			if owner := d.state().UplinkOwner("vmnic1"); owner == nil || owner.Name != name {
				t.Errorf("after the failure vmnic1 is an uplink of %+v", owner)
			}
		})
	}
}

func TestUnknownBondMemberIsRefused(t *testing.T) {
	t.Parallel()
	withNetwork(t, "8.0.3", physical(1, manual), physical(2, manual), bond("802.3ad", mac(1), `, "eno9"`)).isRefused(
		"bond bond0: its member eno9 is no physical interface")
}

func TestBondMemberWithoutNICIsRefused(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "8.0.3", physical(1, manual), physical(2, manual), bond("802.3ad", mac(1), ""))
	d.hardware.NICs = d.hardware.NICs[:1]
	d.isRefused("no network interfaces have the MAC address " + mac(2))
}

// A machine whose NIC was replaced after MAAS had looked at it.
func TestUnknownMACLeavesTheOldNetwork(t *testing.T) {
	t.Parallel()
	d := start(t, "b-bond-vlans-static", "7.0.3")
	d.hardware.NICs[1].MAC = "02:00:5e:99:00:01"
	d.run()
	d.failed("no network interfaces have the MAC address 02:00:5e:20:00:02")
	d.oldNetwork()
}

// The bond has a MAC address of its own: which member is to be active is not known.
func TestBondMACOfNoMember(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "8.0.3", physical(1, manual), physical(2, manual), bond("active-backup", mac(200), ""))
	d.run()
	d.deployed()
	w := d.state().Switches[0]
	if !slices.Equal(w.Teaming.Active, []string{"vmnic0"}) || !slices.Equal(w.Teaming.Standby, []string{"vmnic1"}) || d.state().Interface("vmk0").MAC != mac(200) {
		t.Errorf("the vSwitch is %+v", w)
	}
	if !strings.Contains(d.log(), "no member has its MAC address") {
		t.Errorf("the log does not say so:\n%s", d.log())
	}
}

func TestUnsupportedBondModeLeavesNoVSwitch(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"balance-tlb", "balance-alb", "balance-xor", "broadcast"} {
		withNetwork(t, "8.0.3", physical(1, manual), physical(2, manual), bond(mode, mac(1), "")).isRefused("mode " + mode + " is not supported")
	}
}

func TestRouteWithoutGatewayIsRefused(t *testing.T) {
	t.Parallel()
	for _, route := range []string{`{"destination": "10.9.0.0/16"}`, `{"gateway": "10.50.0.254"}`} {
		subnet := strings.TrimSuffix(static, "}") + `, "routes": [` + route + "]}"
		withNetwork(t, "8.0.3", physical(1, "["+subnet+"]")).isRefused("has no destination, no gateway")
	}
}

func TestMACsAreComparedWithoutCase(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "8.0.3", strings.ReplaceAll(physical(10, "["+static+"]"), mac(10), strings.ToUpper(mac(10))))
	d.run()
	d.deployed()
}

func TestAbsentMTUIsTheDefault(t *testing.T) {
	t.Parallel()
	for _, mtu := range []string{`"mtu": null,`, ""} {
		d := withNetwork(t, "8.0.3", strings.Replace(physical(1, "["+static+"]"), `"mtu": 1500,`, mtu, 1))
		d.run()
		d.deployed()
		if s := d.state(); s.Switches[0].MTU != 1500 || s.Interfaces[0].MTU != 1500 {
			t.Errorf("%q: the MTUs are %d and %d", mtu, s.Switches[0].MTU, s.Interfaces[0].MTU)
		}
	}
}

func TestIPv6AddressKeepsItsPrefixLength(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "7.0.3", physical(1, "["+static+`, {"type": "static", "address": "2001:db8:50::21/80"}]`))
	d.run()
	d.deployed()
	if got := d.state().Interfaces[0].IPv6.Addresses; !slices.Equal(got, []string{"2001:db8:50::21/80"}) {
		t.Errorf("the addresses are %q", got)
	}
}

// ESXi 9 has an option for the gateway that does nothing: the route is set on its own.
func TestDHCPWithAGatewayOnESXi9(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "9.0", physical(1, `[{"type": "dhcp4", "gateway": "10.40.0.1"}]`))
	d.run()
	d.deployed()
	if r := d.state().Routes; len(r) != 1 || r[0].Network != "default" || r[0].Gateway != "10.40.0.1" {
		t.Errorf("the routes are %+v", r)
	}
	for _, c := range d.commands() {
		if strings.Contains(c, "ipv4 set") && strings.Contains(c, "gateway") {
			t.Errorf("the gateway is an option: %s", c)
		}
	}
}

func TestNameServersAndSearchDomainsOfSubnetsCount(t *testing.T) {
	t.Parallel()
	subnet := strings.TrimSuffix(static, "}") + `, "dns_nameservers": ["10.50.0.2", "10.50.0.3"], "dns_search": ["lab.example"]}`
	d := withNetwork(t, "8.0.3", physical(1, "["+subnet+"]"), `{"type": "nameserver", "address": ["10.50.0.3", "9.9.9.9"], "search": ["maas"]}`)
	d.run()
	d.deployed()
	dns := d.state().DNS
	if !slices.Equal(dns.Servers, []string{"10.50.0.3", "9.9.9.9", "10.50.0.2"}) || !slices.Equal(dns.Search, []string{"maas", "lab.example"}) {
		t.Errorf("DNS is %+v", dns)
	}
}

func TestSubnetOfTypeDHCPIsBothFamilies(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "8.0.3", physical(1, `[{"type": "dhcp"}]`))
	d.run()
	d.deployed()
	if v := d.state().Interfaces[0]; v.IPv4.Type != "dhcp" || !v.IPv6.DHCP {
		t.Errorf("vmk0 is %+v", v)
	}
}

func TestTwoSubnetsOnAnInterfaceHaveTwoMACs(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "6.7", physical(1, "["+static+`, {"type": "static", "address": "10.51.0.21/24"}]`))
	d.run()
	d.deployed() // which checks the MAC addresses
	v := d.state().Interfaces
	if len(v) != 2 || v[0].MAC != mac(1) || v[1].MAC == v[0].MAC || v[1].IPv4.Address != "10.51.0.21" {
		t.Errorf("the interfaces are %+v", v)
	}
}

// All of it is checked before the old network is touched.
func TestWrongConfigurationLeavesTheOldNetwork(t *testing.T) {
	t.Parallel()
	for reason, entries := range map[string][]string{
		"is in no subnet of this host":                  {physical(1, `[{"type": "static", "address": "10.50.0.21/24", "gateway": "10.99.0.1"}]`)},
		"fe80::1 of the route to default is link-local": {physical(1, `[{"type": "static", "address": "2001:db8:50::21/64", "gateway": "fe80::1"}]`)},
		"is not an IP address":                          {physical(1, `[{"type": "static", "address": "10.50.0.300/24"}]`)},
		"takes no IPv4 address with":                    {physical(1, `[{"type": "static", "address": "10.50.0.21/32"}]`)},
		"is configured twice":                           {physical(1, "["+static+"]"), physical(2, "["+static+"]")},
		"eno1 is there twice":                           {physical(1, "["+static+"]"), physical(1, manual)},
		"no interface has an address":                   {physical(1, manual)},
		"ESXi has no bridges":                           {physical(1, "["+static+"]"), `{"type": "bridge", "name": "br0", "mac_address": "02:00:5e:77:00:01", "bridge_interfaces": ["eno1"]}`},
		"its number 4096 is not 0 to":                   {physical(1, "["+static+"]"), `{"type": "vlan", "name": "eno1.4096", "vlan_link": "eno1", "vlan_id": 4096}`},
		"its parent eno7 is no":                         {physical(1, "["+static+"]"), `{"type": "vlan", "name": "eno7.5", "vlan_link": "eno7", "vlan_id": 5}`},
		"cannot have addresses":                         {physical(1, "["+static+"]"), physical(2, manual), bond("802.3ad", mac(1), "")},
		"entries of type infiniband":                    {strings.Replace(physical(1, "["+static+"]"), "physical", "infiniband", 1)},
		"subnets is 'all of them'":                      {physical(1, `"all of them"`)},
		"is not 1280 to 9000":                           {strings.Replace(physical(1, "["+static+"]"), "1500", "10000", 1)},
		"is not a MAC address":                          {strings.Replace(physical(1, "["+static+"]"), mac(1), "eno1", 1)},
		"its gateway fe80::1 is of ano":                 {physical(1, `[{"type": "static", "address": "10.50.0.21/24", "routes": [{"destination": "10.9.0.0/16", "gateway": "fe80::1"}]}]`)},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			d := withNetwork(t, "8.0.3", entries...)
			d.hardware.NICs = []host.NIC{{MAC: mac(1), Wire: d.config.wires()}}
			d.isRefused(reason)
		})
	}
}

// A second run of the agent finds all done, with every sample configuration.
func TestSecondRunChangesNothing(t *testing.T) {
	for _, version := range []string{"6.7", "8.0.3"} { // one for each of MAAS's layouts
		for _, m := range machines[:9] { // the sample configurations
			t.Run(m.name+"/"+version, func(t *testing.T) {
				t.Parallel()
				d := start(t, m.name, version)
				d.run()
				if d.sim.Machine(node).State != "Deployed" {
					return // refused: there is a test for each reason
				}
				before, done := d.state(), len(d.commands())
				d.boot()
				d.deployed()
				after, again := d.state(), d.commands()[done:]
				before.Log, after.Log = nil, nil
				if got, want := fmt.Sprintf("%+v", after), fmt.Sprintf("%+v", before); got != want {
					t.Errorf("the second run has made of\n%s\n%s", want, got)
				}
				for _, c := range again {
					if c != "esxcli network firewall refresh" && c != "auto-backup.sh" && !strings.HasPrefix(c, "logger ") && !strings.HasPrefix(c, "partedUtil get") {
						t.Errorf("the second run has called %s", c)
					}
				}
			})
		}
	}
}
