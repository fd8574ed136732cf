package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// refusals are calls that must fail, say why, and change nothing. What comes
// before the last "; " prepares the host. Input follows "<<<", with | for the
// ends of lines.
var refusals = []struct{ lines, why string }{
	// Wrong use.
	{"esxcli network nonsense list", "Unknown command or namespace network nonsense list"},
	{"esxcli network vswitch standard", "no command given"},
	{"esxcli network vswitch standard add", "Missing required parameter -v|--vswitch-name"},
	{"esxcli network vswitch standard add --name=x", "Invalid option --name"},
	{"esxcli network vswitch standard add -v a -v b", "was given twice"},
	{"esxcli network vswitch standard add -v", "Missing value"},
	{"esxcli network vswitch standard set -v vSwitch0 --mtu=big", "Argument type mismatch. Expecting integer value. Got 'big'"},
	{"esxcli network vswitch standard list extra", "Unknown command or namespace network vswitch standard list extra"},
	{"esxcli network firewall set --enabled=no", "Expecting boolean value. Got 'no'"},
	{"esxcli --formatter=json network nic list", "Unable to find requested formatter: json"},
	{"esxcli --debug --formatter=yaml network nic list", "Unable to find requested formatter: yaml"},
	{"/etc/init.d/hostd stop; esxcli network nic list", "Connection failure"},
	// vSwitches.
	{"esxcli network vswitch standard add -v vSwitch0", "already exists"},
	{"esxcli network vswitch standard add -v a-name-of-more-than-thirty-one-characters", "Invalid vswitch name"},
	{"esxcli network vswitch standard remove -v vSwitch9", "No such vswitch"},
	{"esxcli network vswitch standard remove -v vSwitch0", "Busy"},
	{"esxcli network vswitch standard set -v vSwitch0 -m 9001", "Invalid MTU 9001"},
	{"esxcli network vswitch standard set -v vSwitch0 -m 1000", "Invalid MTU 1000"},
	{"esxcli network vswitch standard uplink add -v vSwitch0 -u vmnic2; esxcli network vswitch standard set -v vSwitch0 -m 9000", "vmnic2 takes an MTU of 1500"},
	{"esxcli network vswitch standard add -v s; esxcli network vswitch standard uplink add -v s -u vmnic0", "in use by vswitch vSwitch0"},
	{"esxcli network vswitch standard uplink add -v vSwitch0 -u vmnic10", "Unknown NIC vmnic10"},
	{"esxcli network vswitch standard uplink remove -v vSwitch0 -u vmnic1", "not an uplink"},
	{"esxcli network vswitch standard policy failover set -v vSwitch0 -a vmnic0,vmnic1", "not an uplink of vswitch vSwitch0"},
	{"esxcli network vswitch standard policy failover set -v vSwitch0 -a vmnic0 -s vmnic0", "both active and standby"},
	{"esxcli network vswitch standard policy failover set -v vSwitch0 -l lacp", "Invalid value 'lacp'"},
	// Port groups.
	{`esxcli network vswitch standard portgroup add -v vSwitch0 -p "VM Network"`, "already exists"},
	{"esxcli network vswitch standard portgroup add -v vSwitch9 -p x", "No such vswitch"},
	{`esxcli network vswitch standard portgroup remove -v vSwitch0 -p "Management Network"`, "in use by vmk0"},
	{"esxcli network vswitch standard portgroup remove -v vSwitch0 -p x", "No such portgroup"},
	{`esxcli network vswitch standard portgroup set -p "VM Network" -v 4096`, "Invalid VLAN id 4096"},
	{`esxcli network vswitch standard portgroup set -p "VM Network" -v -1`, "Invalid VLAN id -1"},
	// VMkernel interfaces.
	{"esxcli network ip interface add -i vmk1", "Missing required parameter -p|--portgroup-name"},
	{"esxcli network ip interface add -i vmk1 -p nowhere", "No such portgroup"},
	{`esxcli network ip interface add -i vmk1 -p "Management Network"`, "already has the VMkernel interface vmk0"},
	{`esxcli network ip interface add -i vmk0 -p "VM Network"`, "vmk0 already exists"},
	{`esxcli network ip interface add -i eth0 -p "VM Network"`, "Invalid interface name"},
	{`esxcli network ip interface add -i vmk1 -p "VM Network" -M 52:54:00:E5:1D:01`, "Duplicate MAC address"},
	{`esxcli network ip interface add -i vmk1 -p "VM Network" -M 01:00:5e:00:00:01`, "multicast"},
	{`esxcli network ip interface add -i vmk1 -p "VM Network" -M 52-54-00`, "Invalid MAC address"},
	{`esxcli network ip interface add -i vmk1 -p "VM Network" -m 9216`, "Invalid MTU"},
	{"esxcli network ip interface remove -i vmk1", "does not exist"},
	{"esxcli network ip interface tag add -i vmk0 -t Backup", "Invalid tag name"},
	{"esxcli network ip interface tag remove -i vmk0 -t VMotion", "does not have the tag"},
	// Addresses and routes.
	{"esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.300 -N 255.255.255.0", "Invalid IPv4 address"},
	{"esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.3 -N 255.0.255.0", "Invalid netmask"},
	{"esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.3 -N None", "Invalid netmask"},
	{"esxcli network ip interface ipv4 set -i vmk0 -t dhcp -I 10.0.0.3", "static only"},
	{"esxcli network ip interface ipv4 set -i vmk0 -t auto", "Invalid type"},
	{`esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.3 -N 255.255.255.0; esxcli network ip interface add -i vmk1 -p "VM Network";
		esxcli network ip interface ipv4 set -i vmk1 -t static -I 10.0.0.3 -N 255.255.255.0`, "Duplicate IP address"},
	{"esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::5", "prefix length"},
	{"esxcli network ip interface ipv6 set -i vmk0 -e false; esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::5/64", "not enabled"},
	{"esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::5/64; esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::5/64", "Already exists"},
	{"esxcli network ip route ipv4 add -g 10.0.0.1 -n default", "Network unreachable"},
	{"esxcli network ip route ipv4 add -g 10.0.0.1 -n 10.1.0.0/33", "Invalid network"},
	{"esxcli network ip route ipv4 add -g 2001:db8::1 -n default", "Invalid gateway"},
	{`esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.3 -N 255.255.255.0; esxcli network ip route ipv4 add -g 10.0.0.1 -n default;
		esxcli network ip route ipv4 add -g 10.0.0.2 -n default`, "Already exists"},
	{"esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.3 -N 255.255.255.0; esxcli network ip route ipv4 add -g 10.0.0.1 -n 10.0.0.0/24", "Already exists"},
	{"esxcli network ip route ipv4 remove -g 10.0.0.1 -n default", "Not found"},
	{"esxcli network ip dns server add -s ns.example", "not an IP address"},
	{"esxcli network ip dns server add -s 10.0.0.2; esxcli network ip dns server add -s 10.0.0.2", "already exists"},
	{"esxcli network ip dns search remove -d example", "does not exist"},
	// The firewall.
	{"esxcli network firewall ruleset set -r nonsense -e true", "Invalid ruleset id nonsense"},
	{"esxcli network firewall ruleset allowedip add -r sshServer -i 10.0.0.1", "allowed-all=false first"},
	// Partitions.
	// As in testdata/partedUtil_getptbl.error-not-found.txt.
	{"partedUtil getptbl naa.5000c500b0009813", "Could not stat device"},
	{"partedUtil getptbl /vmfs/devices/disks/naa.5", "Unable to get device /vmfs/devices/disks/naa.5"},
	{"partedUtil getUsableSectors SAS", "label of the disk is unknown"},
	{`partedUtil add SAS gpt "1 2048 4095 AA31E02A400F11DB9590000C2911D1B8 0"`, "label of the disk is unknown"},
	{`partedUtil mklabel SAS gpt; partedUtil add SAS gpt "1 2048 4095 AA31E02A-400F-11DB-9590-000C2911D1B8 0"`, "no partition type"},
	{`partedUtil mklabel SAS gpt; partedUtil add SAS gpt "1 2048 7814037135 AA31E02A400F11DB9590000C2911D1B8 0"`, "outside the disk"},
	{`partedUtil mklabel SAS gpt; partedUtil add SAS gpt "1 33 4095 AA31E02A400F11DB9590000C2911D1B8 0"`, "outside the disk"},
	{`partedUtil add BOOT gpt "8 67108830 70000000 AA31E02A400F11DB9590000C2911D1B8 0"`, "overlapping"},
	{`partedUtil add BOOT gpt "7 67110912 70000000 AA31E02A400F11DB9590000C2911D1B8 0"`, "used twice"},
	{"partedUtil delete BOOT 8", "does not exist"},
	{"partedUtil delete BOOT 5", "Read-only file system"},
	{"partedUtil delete BOOT 7", "in use"},
	{"partedUtil delete BOOT 1", "in use"},
	{"partedUtil resize BOOT 7 16986112 60000000", "in-use partition 7 can not be shrunk"},
	{"partedUtil mklabel BOOT gpt", "Read-only file system"},
	{`partedUtil setptbl BOOT gpt "1 64 204863 C12A7328F81F11D2BA4B00A0C93EC93B 128"`, "in use"},
	{"partedUtil fixGpt BOOT <<< N", "Nothing was changed"},
	{"partedUtil fix SAS", "label unknown"},
	// Volumes.
	{"vmkfstools -C vmfs6 -S a SAS:1", "No such file or directory"},
	{"vmkfstools -C vmfs6 -S a BOOT:2", "No such file or directory"},
	{"vmkfstools -C ext4 -S a BOOT:8", "Unknown file system type"},
	{"vmkfstools -C vmfs6 -S a BOOT:5", "not vmfs"},
	{`partedUtil add BOOT gpt "8 67110912 68000000 AA31E02A400F11DB9590000C2911D1B8 0"; vmkfstools -C vmfs6 -S a BOOT:8`, "too small"},
	{`partedUtil add BOOT gpt "8 67110912 134217694 AA31E02A400F11DB9590000C2911D1B8 0"; vmkfstools -C vmfs6 -S a BOOT:8;
		vmkfstools -C vmfs6 -S b BOOT:8`, "busy"},
	{`partedUtil add BOOT gpt "8 67110912 134217694 AA31E02A400F11DB9590000C2911D1B8 0"; vmkfstools -C vmfs6 -S a BOOT:8; partedUtil delete BOOT 8`, "in use"},
	{`partedUtil add BOOT gpt "8 67110912 134217694 AA31E02A400F11DB9590000C2911D1B8 0"; vmkfstools -C vmfs6 -S a BOOT:8; vmkfstools --growfs BOOT:8 BOOT:8`, "no free space"},
	{"vmkfstools --growfs BOOT:7 BOOT:8", "the same"},
	{`partedUtil add BOOT gpt "8 67110912 134217694 AA31E02A400F11DB9590000C2911D1B8 0"; vmkfstools -C vmfs6 -S a BOOT:8; vmkfstools -Z SAS:1 BOOT:8 <<< 0`, "No such file"},
	{`partedUtil mklabel SAS gpt; partedUtil add SAS gpt "1 2048 7814037134 AA31E02A400F11DB9590000C2911D1B8 0"; vmkfstools -Z SAS:1 BOOT:7 <<< 0`, "a VMFS volume"},
	{`partedUtil mklabel SAS gpt; partedUtil add SAS gpt "1 2048 7814037134 AA31E02A400F11DB9590000C2911D1B8 0"; vmkfstools -Z SAS:1 BOOT:7 <<< 1`, "not spanned"},
	{"esxcli storage filesystem unmount -l OSDATA-06e61751-b2b7d245-fc63-525400e51d01", "busy"},
	{"esxcli storage filesystem unmount -l nothing", "No volume"},
	{"vim-cmd hostsvc/datastore/destroy nothing", "Datastore not found"},
	{"esxcli nvme device get -A vmhba0", "Adapter not found"},
	{"esxcli storage core device list -d naa.5", "Unknown device"},
	// The system.
	{"esxcli system hostname set --fqdn -x.example", "Invalid host name"},
	{"esxcli system hostname set --fqdn a.b --host c", "neither"},
	{"esxcli system hostname set", "Missing required parameter"},
	{"esxcli system ntp set -e true", "without a server"},
	{"esxcli system settings advanced set -o /Net/Nonsense -i 1", "Unable to find option"},
	{"esxcli system settings advanced set -o /Net/FollowHardwareMac -i 2", "0 to 1 are allowed"},
	{"esxcli system settings advanced set -o /Net/FollowHardwareMac -s x", "another type"},
	{"esxcli system settings kernel set -s nonsense -v 1", "Invalid Key"},
	{"esxcli system account add -i tmp -p Weak -c Weak", "Weak password"},
	{"esxcli system account add -i tmp -p VMware1!VMware -c VMware2!VMware", "do not match"},
	{"esxcli system account add -i root -p VMware1!VMware -c VMware1!VMware", "already exists"},
	{"esxcli system account add -i tmp", "Missing required parameter -p|--password"},
	{"esxcli system account remove -i root", "Cannot remove"},
	{"esxcli system account remove -i tmp", "does not exist"},
	{"esxcli system permission set -i tmp -r Admin", "does not exist"},
	{"esxcli system permission set -i root -r God", "Invalid role"},
	{"esxcli system maintenanceMode set -e false", "already disabled"},
	{"esxcli system shutdown reboot -r why", "Maintenance Mode"},
	{"vim-cmd hostsvc/nonsense", "Invalid command"},
	{"vsish -e get /nonsense", "Not found"},
	{"/etc/init.d/ntpd nonsense", "Usage"},
}

func TestRefusals(t *testing.T) {
	fresh := newHost(t, standard("8.0.3")) // it stays so, as every test sees to it
	for _, r := range refusals {
		t.Run(r.lines, func(t *testing.T) {
			h, lines := fresh, strings.Split(r.lines, ";")
			if len(lines) > 1 {
				h = newHost(t, standard("8.0.3"))
			}
			must(t, h, lines[:len(lines)-1]...)
			before := state(t, h)
			line, input, _ := strings.Cut(lines[len(lines)-1], " <<< ")
			exit, out := call(t, h, line, strings.ReplaceAll(input, "|", "\n"))
			if exit == 0 || !strings.Contains(out, r.why) {
				t.Errorf("exit status %d, want a refusal with %q:\n%s", exit, r.why, out)
			}
			if after := state(t, h); !reflect.DeepEqual(before, after) {
				t.Errorf("the refused call changed the host from\n%+v\nto\n%+v", before, after)
			}
		})
	}
}

// TestUsageText: the form of a wrong use, whose descriptions are our own.
func TestUsageText(t *testing.T) {
	text, err := os.ReadFile("testdata/esxcli_network_vswitch_standard_portgroup_set.error.txt")
	if err != nil {
		t.Fatal(err)
	}
	form := func(s string) string {
		var lines []string
		for line := range strings.Lines(s) {
			if i := strings.LastIndex(line, "  "); i > 0 { // a description
				line = line[:i]
			}
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	h := newHost(t, standard("8.0.3"))
	exit, got := call(t, h, "esxcli network vswitch standard portgroup set --portgroup-name=bond0 --vlan-id=LT-3100", "")
	want := "Error: While processing '--vlan-id'. Argument type mismatch. Expecting integer value. Got 'LT-3100'"
	if first, _, _ := strings.Cut(got, "\n"); exit == 0 || first != want || !strings.HasPrefix(string(text), want) {
		t.Errorf("exit status %d, the first line is\n%s", exit, first)
	}
	for _, line := range strings.Split(form(string(text)), "\n") {
		if strings.HasPrefix(line, "The name of") { // a description on its own line
			continue
		}
		if !strings.Contains(form(got), line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
}

// TestNewerThan: what a version does not have yet.
func TestNewerThan(t *testing.T) {
	for _, c := range []struct{ version, line, why string }{
		{"6.7", "esxcli system ntp set -s ntp.example -e true", "Unknown command or namespace system ntp set"},
		{"6.5", "esxcli --debug --formatter=json network nic list", "Unable to find requested formatter: json"},
		{"7.0.3", "esxcli --debug --formatter=json network nic list", "Unable to find requested formatter: json"},
		{"7.0.3", "esxcli system settings advanced set -o /User/execInstalledOnly -i 0", "Unable to find option"},
		{"7.0.3", "esxcli system ssh server config list", "Unknown command or namespace"},
	} {
		if exit, out := call(t, newHost(t, standard(c.version)), c.line, ""); exit == 0 || !strings.Contains(out, c.why) {
			t.Errorf("%s: %s: exit status %d:\n%s", c.version, c.line, exit, out)
		}
	}
	text, err := os.ReadFile("testdata/esxcli_json.error-no-formatter.txt")
	if _, out := call(t, newHost(t, standard("6.5")), "esxcli --debug --formatter=json network nic list", ""); err != nil || out != string(text) {
		t.Errorf("printed %q, want %q (%v)", out, text, err)
	}
}

// TestSamplesAreUsed: a sample that no test reads proves nothing.
func TestSamplesAreUsed(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var tests string
	for _, name := range []string{"samples_test.go", "refusals_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests += string(text)
	}
	for _, e := range entries {
		name, sample := strings.CutSuffix(e.Name(), ".txt")
		if sample && !strings.Contains(tests, `"`+strings.TrimPrefix(name, "partedUtil_getptbl.")+`"`) && !strings.Contains(tests, name+".txt") {
			t.Errorf("no test uses %s", e.Name())
		}
	}
}
