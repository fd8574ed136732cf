package main

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

// wired is a machine whose first NIC leads to the build machine's network and
// whose second one to the deployment's, with VLANs.
func wired(version string) host.Hardware {
	hw := standard(version)
	hw.NICs[0].Wire = []host.Wire{{Subnet: "192.168.9.0/24", DHCP: "192.168.9.50"}}
	hw.NICs[1].Wire = []host.Wire{
		{Subnet: "10.0.0.0/24", Gateway: "10.0.0.1", DHCP: "10.0.0.50", DNS: []string{"10.0.0.2"}},
		{VLAN: 51, Subnet: "10.51.0.0/24", Gateway: "10.51.0.1"},
		{Subnet: "2001:db8::/64", Gateway: "2001:db8::1"},
	}
	return hw
}

// replace is how a management network is replaced without losing the old one
// too early.
var replace = []string{
	"esxcli network vswitch standard uplink add -v vSwitch0 -u vmnic1",
	"esxcli network vswitch standard policy failover set -v vSwitch0 -a vmnic1",
	"esxcli network vswitch standard portgroup add -v vSwitch0 -p eno2",
	"esxcli network ip interface remove -i vmk0",
	"esxcli network ip interface add -i vmk0 -p eno2 -M A4:BF:01:4E:37:15 -m 1500",
	"esxcli network ip interface tag add -i vmk0 -t Management",
	`esxcli network vswitch standard portgroup remove -v vSwitch0 -p "Management Network"`,
	"esxcli network vswitch standard uplink remove -v vSwitch0 -u vmnic0",
}

func TestDHCP(t *testing.T) {
	h := newHost(t, wired("8.0.3"))
	must(t, h, replace...)
	must(t, h, "esxcli network ip interface ipv4 set -i vmk0 -t dhcp -P true")
	for line, want := range map[string]string{
		"esxcli network ip interface ipv4 get": "vmk0  10.0.0.50     255.255.255.0  10.0.0.255      DHCP          10.0.0.1      true",
		"esxcli network ip route ipv4 list":    "default   0.0.0.0        10.0.0.1  vmk0       DHCP",
		"esxcli network ip dns server list":    "DNSServers: 10.0.0.2",
	} {
		if got := must(t, h, line); !strings.Contains(got, want) {
			t.Errorf("%s: no %q in\n%s", line, want, got)
		}
	}
}

func TestStaticRoutes(t *testing.T) {
	h := newHost(t, wired("7.0.3"))
	must(t, h, replace...)
	must(t, h,
		"esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.21 -N 255.255.255.0",
		"esxcli network ip route ipv4 add -g 10.0.0.1 -n default",
		"esxcli network ip route ipv4 add --gateway=10.0.0.254 --network=172.16.5.9/12",
		"esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::21/64",
		"esxcli network ip route ipv6 add -g 2001:db8::1 -n default",
	)
	want := `Network     Netmask        Gateway     Interface  Source
----------  -------------  ----------  ---------  ------
default     0.0.0.0        10.0.0.1    vmk0       MANUAL
10.0.0.0    255.255.255.0  0.0.0.0     vmk0       MANUAL
172.16.0.0  255.240.0.0    10.0.0.254  vmk0       MANUAL
`
	if got := must(t, h, "esxcli network ip route ipv4 list"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := must(t, h, "esxcli network ip route ipv6 list"); !strings.Contains(got, "default           0  2001:db8::1  vmk0") {
		t.Errorf("got\n%s", got)
	}
	must(t, h, "esxcli network ip interface remove -i vmk0")
	if routes := state(t, h).Routes; len(routes) != 0 {
		t.Errorf("routes outlive their interface: %v", routes)
	}
}

// TestGatewayOption: -g of ipv4 set does nothing from 9.0 on.
func TestGatewayOption(t *testing.T) {
	for version, want := range map[string]bool{"6.5": true, "8.0.3": true, "9.0": false} {
		h := newHost(t, wired(version))
		must(t, h, "esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.21 -N 255.255.255.0 -g 10.0.0.1")
		if got := strings.Contains(must(t, h, "esxcli network ip route ipv4 list"), "default"); got != want {
			t.Errorf("%s: default route: %v", version, got)
		}
	}
}

func TestUplinksAndTeaming(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h, "esxcli network vswitch standard add -v bond0",
		"esxcli network vswitch standard uplink add -v bond0 -u vmnic1", "esxcli network vswitch standard uplink add -v bond0 -u vmnic2")
	get := "esxcli network vswitch standard policy failover get -v bond0"
	if got := must(t, h, get); !strings.Contains(got, "Active Adapters: vmnic1\n") || !strings.Contains(got, "Unused Adapters: vmnic2\n") {
		t.Errorf("a second uplink is used without being asked for:\n%s", got)
	}
	must(t, h, "esxcli network vswitch standard policy failover set -v bond0 -a vmnic2 -s vmnic1 -l explicit",
		"esxcli network vswitch standard portgroup add -v bond0 -p pg", "esxcli network vswitch standard portgroup set -p pg -v 51",
		"esxcli network vswitch standard portgroup policy failover set -p pg -a vmnic1 -l portid")
	got := must(t, h, get, "esxcli network vswitch standard portgroup policy failover get -p pg")
	for _, want := range []string{"Load Balancing: explicit", "Active Adapters: vmnic2", "Standby Adapters: vmnic1", "Load Balancing: srcport", "Active Adapters: vmnic1", "Override Vswitch Uplinks: true"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	must(t, h, "esxcli network vswitch standard uplink remove -v bond0 -u vmnic2", "esxcli network vswitch standard remove -v bond0")
}

// TestReach: a connection needs a route, a wire and a ruleset.
func TestReach(t *testing.T) {
	h := newHost(t, wired("8.0.3"))
	reach := func(to string) string {
		m, err := h.Machine()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Reach(netip.MustParseAddrPort(to)); err != nil {
			return err.Error()
		}
		return ""
	}
	expect := func(to, why string) {
		t.Helper()
		if got := reach(to); (why == "") != (got == "") || !strings.Contains(got, why) {
			t.Errorf("%s: %q, want %q", to, got, why)
		}
	}
	expect("10.0.0.5:5248", "no enabled ruleset")
	open := `<ConfigRoot><service id="0900"><id>test</id><rule id="0000"><direction>outbound</direction><protocol>tcp</protocol>` +
		`<porttype>dst</porttype><port>5248</port></rule><enabled>true</enabled><required>false</required></service></ConfigRoot>`
	if err := os.WriteFile(h.Path("/etc/vmware/firewall/test.xml"), []byte(open), 0o644); err != nil {
		t.Fatal(err)
	}
	expect("10.0.0.5:5248", "no enabled ruleset")
	must(t, h, "esxcli network firewall refresh")
	expect("192.168.9.7:5248", "")
	expect("10.0.0.5:5248", "no route")
	must(t, h, replace...)
	must(t, h, "esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.21 -N 255.255.255.0")
	expect("10.0.0.5:5248", "")
	expect("192.168.9.7:5248", "no route")
	expect("[2001:db8::7]:5248", "no route")
	must(t, h, "esxcli network ip route ipv4 add -g 10.0.0.1 -n default")
	expect("192.168.9.7:5248", "")
	must(t, h, "esxcli network vswitch standard portgroup set -p eno2 -v 51")
	expect("10.0.0.5:5248", "not on a wire")
	must(t, h, "esxcli network vswitch standard portgroup set -p eno2 -v 0", "esxcli network ip interface set -i vmk0 -e false")
	expect("10.0.0.5:5248", "disabled")
	must(t, h, "esxcli network ip interface set -i vmk0 -e true", "esxcli network vswitch standard uplink remove -v vSwitch0 -u vmnic1")
	expect("10.0.0.5:5248", "not on a wire")
	must(t, h, "esxcli network firewall ruleset set -r test -e false")
	expect("10.0.0.5:5248", "no enabled ruleset")
}

func TestBrokenRuleset(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	for _, text := range []string{"<ConfigRoot>", `<ConfigRoot><service><id>sshServer</id></service></ConfigRoot>`, `<ConfigRoot><service><id>x</id><rule/></service></ConfigRoot>`} {
		if err := os.WriteFile(h.Path("/etc/vmware/firewall/test.xml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if exit, out := call(t, h, "esxcli network firewall refresh", ""); exit == 0 || !strings.Contains(out, "test.xml") {
			t.Errorf("%s: exit status %d: %s", text, exit, out)
		}
	}
}

// TestAllowedAddresses: a ruleset may be for some addresses only.
func TestAllowedAddresses(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h, "esxcli network firewall ruleset set -r httpClient -e true", "esxcli network firewall ruleset set -r httpClient -a false",
		"esxcli network firewall ruleset allowedip add -r httpClient -i 10.0.0.0/8", "esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.9 -N 255.0.0.0",
		"esxcli network ip route ipv4 add -g 10.0.0.1 -n default")
	m, err := h.Machine()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Reach(netip.MustParseAddrPort("10.1.2.3:443")); err != nil {
		t.Error(err)
	}
	if m.Reach(netip.MustParseAddrPort("11.1.2.3:443")) == nil {
		t.Error("an address that is not allowed can be reached")
	}
	if got := must(t, h, "esxcli network firewall ruleset allowedip list -r httpClient"); !strings.Contains(got, "httpClient  10.0.0.0/8") {
		t.Errorf("got\n%s", got)
	}
}

func TestFollowHardwareMAC(t *testing.T) {
	h := newHost(t, standard("6.7"))
	must(t, h, "esxcli network vswitch standard portgroup add -v vSwitch0 -p a", "esxcli network vswitch standard portgroup add -v vSwitch0 -p b",
		"esxcli network ip interface add -p a", "esxcli system settings advanced set -o /Net/FollowHardwareMac -i 1", "esxcli network ip interface add -p b")
	s := state(t, h)
	if mac := s.Interface("vmk1").MAC; !strings.HasPrefix(mac, "00:50:56:6") {
		t.Errorf("vmk1 has %s, not one of VMware's addresses", mac)
	}
	if mac := s.Interface("vmk2").MAC; mac != "a4:bf:01:4e:37:14" {
		t.Errorf("vmk2 has %s, not its uplink's address", mac)
	}
}

// TestCallsAreAtomic: calls at the same time do not lose each other's changes.
func TestCallsAreAtomic(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	var wait sync.WaitGroup
	var want []string
	for i := range 20 {
		domain := fmt.Sprintf("d%02d.example", i)
		want = append(want, domain)
		wait.Go(func() { must(t, h, "esxcli network ip dns search add -d "+domain) })
	}
	wait.Wait()
	got := slices.Sorted(slices.Values(state(t, h).DNS.Search))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	calls, err := h.Calls()
	if err != nil || len(calls) != 20 {
		t.Errorf("%d calls are noted (%v)", len(calls), err)
	}
}
