package main

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// prepared is a host with a bit of everything.
const prepared = `
esxcli network vswitch standard add -v bond0 -P 256
esxcli network vswitch standard set -v bond0 -m 9000 -c both
esxcli network vswitch standard uplink add -v bond0 -u vmnic1
esxcli network vswitch standard policy failover set -v bond0 -a vmnic1 -l iphash -f beacon -b false -n false
esxcli network vswitch standard portgroup add -v bond0 -p bond0.51
esxcli network vswitch standard portgroup set -p bond0.51 -v 51
esxcli network vswitch standard portgroup policy failover set -p "VM Network" -s vmnic0
esxcli network vswitch standard portgroup policy failover set -p "VM Network" -u
esxcli network ip interface add -i vmk1 -p bond0.51 -m 9000 -N defaultTcpipStack
esxcli network ip interface set -i vmk1 -m 8000
esxcli network ip interface tag add -i vmk1 -t VMotion
esxcli network ip interface tag add -i vmk1 -t VSAN
esxcli network ip interface tag remove -i vmk1 -t VSAN
esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.21 -N 255.255.252.0
esxcli network ip interface ipv4 set -i vmk1 -t static -I 10.51.0.21 -N 255.255.255.0
esxcli network ip interface ipv6 set -i vmk1 -d true -r false -P true
esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::21/64
esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::22/64
esxcli network ip interface ipv6 address remove -i vmk0 -I 2001:db8::22/64
esxcli network ip route ipv4 add -g 10.0.0.1 -n default
esxcli network ip route ipv4 add -g 10.51.0.1 -n 172.16.0.0/12
esxcli network ip route ipv4 add -g 10.51.0.1 -n 192.168.0.0/16
esxcli network ip route ipv4 remove -g 10.51.0.1 -n 192.168.0.0/16
esxcli network ip route ipv6 add -g 2001:db8::1 -n default
esxcli network ip dns server add -s 10.0.0.2
esxcli network ip dns server add -s 10.0.0.3
esxcli network ip dns server remove -s 10.0.0.3
esxcli network ip dns search add -d gone.example
esxcli network ip dns search remove -a
esxcli network ip dns search add -d lab.example
esxcli network firewall ruleset set -r httpClient -e true -a false
esxcli network firewall ruleset allowedip add -r httpClient -i 10.0.0.0/8
esxcli network firewall ruleset allowedip add -r httpClient -i 2001:db8::1
esxcli network firewall ruleset allowedip remove -r httpClient -i 2001:db8::1
partedUtil mklabel SAS gpt
partedUtil add SAS gpt "1 2048 7814037134 AA31E02A400F11DB9590000C2911D1B8 0"
vmkfstools -C vmfs6 -S "big one" SAS:1
esxcli storage filesystem unmount -l "big one"
esxcli storage filesystem automount
esxcli storage core adapter rescan --all
esxcli system hostname set -H esx1 -d lab.example
esxcli system settings advanced set -o /UserVars/SuppressShellWarning -i 1
esxcli system settings kernel set -s ignoreHeadless -v TRUE
esxcli system welcomemsg set -m Hello
esxcli system account add -i ops -d "Operators' account" -p VMware1!x -c VMware1!x
esxcli system permission set -i ops -r ReadOnly
esxcli system syslog config set --loghost=udp://10.0.0.9:514
esxcli system maintenanceMode set -e true
esxcfg-advcfg -s 600 /UserVars/ESXiShellTimeOut
chkconfig SSH on
/etc/init.d/SSH start
vsish -e set /system/log hello
vsish -e set /config/Net/intOpts/FollowHardwareMac 1`

// asked are the questions that a first boot or its debugging may have.
const asked = `
vmware -vl
esxcli system version get
esxcli system hostname get
esxcli system uuid get
esxcli system boot device get
esxcli system welcomemsg get
esxcli system maintenanceMode get
esxcli system account list
esxcli system permission list
esxcli system syslog config get
esxcli system settings advanced list --delta
esxcli system settings advanced list -o /Security/PasswordQualityControl
esxcli system settings kernel list -o ignoreHeadless
esxcli hardware platform get
esxcli hardware memory get
esxcli hardware cpu global get
esxcli hardware trustedboot get
esxcli software vib list
esxcli software profile get
esxcli software acceptance get
esxcli network nic list
esxcli network nic get -n vmnic1
esxcli network vswitch standard list
esxcli network vswitch standard policy failover get -v bond0
esxcli network vswitch standard portgroup list
esxcli network vswitch standard portgroup policy failover get -p bond0.51
esxcli network ip get
esxcli network ip interface list
esxcli network ip interface tag get -i vmk1
esxcli network ip interface ipv4 get
esxcli network ip interface ipv4 address list -i vmk1
esxcli network ip interface ipv6 get
esxcli network ip interface ipv6 address list
esxcli network ip route ipv4 list
esxcli network ip route ipv6 list
esxcli network ip dns server list
esxcli network ip dns search list
esxcli network firewall get
esxcli network firewall ruleset list -r httpClient
esxcli network firewall ruleset rule list -r httpClient
esxcli network firewall ruleset allowedip list -r httpClient
esxcli storage core adapter list
esxcli storage core device list -d naa.5000c500b0009813
esxcli storage core device capacity list
esxcli storage core device partition list
esxcli storage core device uid list
esxcli storage core path list -d naa.5000c500b0009813
esxcli storage filesystem list
esxcli storage vmfs extent list
esxcli storage vmfs snapshot list
esxcli storage vmfs snapshot extent list
esxcli nvme device list
esxcli nvme device get -A vmhba1
esxcli nvme device namespace list -A vmhba1`

// others are tools that print no esxcli output.
const others = `
partedUtil getptbl BOOT
partedUtil showGuids
vmkfstools -P "/vmfs/volumes/big one"
vim-cmd hostsvc/hostsummary
vim-cmd hostsvc/datastore/listsummary
vim-cmd vmsvc/getallvms
esxcfg-scsidevs -l
esxcfg-scsidevs -m
esxcfg-volume -l
esxcfg-advcfg -g /UserVars/ESXiShellTimeOut
vsish -e ls /net/pNics
vsish -e get /config/Net/intOpts/FollowHardwareMac
chkconfig --list
/etc/init.d/SSH status`

func lines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

// TestTour: all that the tools print, per version, as a golden file that a
// person can compare with a real host.
func TestTour(t *testing.T) {
	for _, version := range []string{"6.5", "6.7", "7.0.3", "8.0.3", "9.0"} {
		h := newHost(t, standard(version))
		must(t, h, lines(prepared)...)
		var got strings.Builder
		for _, line := range append(lines(asked), lines(others)...) {
			got.WriteString("# " + line + "\n" + must(t, h, line) + "\n")
		}
		golden := "testdata/tour." + version + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := firstDifference(got.String(), string(want)); diff != "" {
			t.Errorf("%s: %s", version, diff)
		}
	}
}

// firstDifference is the first line that differs, with what it belongs to.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	command := ""
	for i := range g {
		if strings.HasPrefix(g[i], "# ") {
			command = g[i]
		}
		if i >= len(w) || g[i] != w[i] {
			return command + "\ngot  " + g[i] + "\nwant " + strings.Join(w[min(i, len(w)):min(i+1, len(w))], "")
		}
	}
	if len(w) > len(g) {
		return "too short"
	}
	return ""
}

// TestJSONTour: every answer has a JSON form.
func TestJSONTour(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h, lines(prepared)...)
	for _, line := range lines(asked) {
		args, ok := strings.CutPrefix(line, "esxcli ")
		if !ok {
			continue
		}
		var value any
		if out := must(t, h, "esxcli --debug --formatter=json "+args); json.Unmarshal([]byte(out), &value) != nil {
			t.Errorf("%s: %s", line, out)
		}
	}
}

// TestUndo: what can be made can be removed, down to the fresh host.
func TestUndo(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	fresh := state(t, h)
	must(t, h, lines(prepared)...)
	must(t, h, lines(`
esxcli system maintenanceMode set -e false
esxcli system account remove -i ops
esxcli system permission unset -i dcui
esxcli system permission set -i dcui -r Admin
esxcli system hostname set --fqdn=localhost.localdomain
esxcli system settings advanced set -o /UserVars/SuppressShellWarning -d
esxcli system settings advanced set -o /UserVars/ESXiShellTimeOut -i 0
esxcli system settings advanced set -o /Net/FollowHardwareMac -d
esxcli system ntp set -s 10.0.0.9 -e true
esxcli system ntp set -e false
esxcli system ntp set -r
esxcli system ssh server config set -k banner -v none
esxcli system ssh server config set -k banner -r
esxcli network ip set -e false
esxcli network ip set -e true
esxcli network firewall set -e false -d true
esxcli network firewall set -e true -d false
esxcli network firewall ruleset set -r httpClient -e false -a true
esxcli network ip dns search remove -d lab.example
esxcli network ip dns server remove -a
esxcli network ip route ipv6 remove -g 2001:db8::1 -n default
esxcli network ip interface remove -p bond0.51
esxcli network vswitch standard portgroup remove -v bond0 -p bond0.51
esxcli network vswitch standard remove -v bond0
esxcli network ip interface ipv6 address remove -i vmk0 -I 2001:db8::21/64
esxcli network ip interface ipv4 set -i vmk0 -t dhcp -P true
vim-cmd hostsvc/datastore/destroy "big one"
partedUtil delete SAS 1
/etc/init.d/SSH stop
chkconfig SSH off`)...)
	now := state(t, h)
	if len(now.Routes) != 0 {
		t.Errorf("routes: %v", now.Routes)
	}
	// What has no way back, or none that was taken.
	now.Log, now.Unsaved, now.Kernel, now.Welcome, now.Syslog, now.Firewall.Allowed = nil, false, nil, "", nil, nil
	now.SSH = nil
	for i := range now.Disks {
		if strings.HasPrefix(now.Disks[i].Name, "naa.") {
			now.Disks[i].Table = host.Table{Label: "unknown"}
		}
	}
	a, err := json.MarshalIndent(fresh, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(now, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if diff := firstDifference(string(b), string(a)); diff != "" {
		t.Error(diff)
	}
}
