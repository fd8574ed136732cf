package firstboot

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
)

var update = flag.Bool("update", false, "write the golden files anew")

var versions = []string{"6.5", "6.7", "7.0.3", "8.0.3", "9.0"}

// TestMatrix deploys every sample configuration with every ESXi version and
// compares what became of the host. Versions with the same result share a
// section of the golden file.
func TestMatrix(t *testing.T) {
	for _, name := range samples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var order []string
			of := map[string][]string{}
			for _, version := range versions {
				text := outcome(t, name, version)
				if of[text] == nil {
					order = append(order, text)
				}
				of[text] = append(of[text], version)
			}
			var b strings.Builder
			for _, text := range order {
				fmt.Fprintf(&b, "==== ESXi %s\n%s\n", strings.Join(of[text], ", "), text)
			}
			golden(t, filepath.Join("testdata", name+".txt"), b.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got\n%s", path, diff)
	}
}

func outcome(t *testing.T, name, version string) string {
	t.Helper()
	d := start(t, name, version)
	d.run()
	m := d.sim.Machine(node)
	if m.State == maassim.Deployed {
		d.deployed()
	} else {
		d.clean()
		d.oldNetwork()
	}
	return describe(d)
}

// describe is the host as a person wants to read it.
func describe(d *deployment) string {
	m, s := d.sim.Machine(node), d.state()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("MAAS: %s", m.State)
	for _, e := range m.Events {
		line("  %s %s %s", e.EventType, e.Result, e.Description)
	}
	line("name: %s, certificate for %s", s.FQDN(), s.Certificate.CommonName)
	for _, w := range s.Switches {
		line("%s: MTU %d, uplinks %s, %s, active %s, standby %s", w.Name, w.MTU, join(w.Uplinks), w.Teaming.LoadBalancing, join(w.Teaming.Active), join(w.Teaming.Standby))
		for _, g := range w.Portgroups {
			line("  port group %q, VLAN %d", g.Name, g.VLAN)
		}
	}
	for _, v := range s.Interfaces {
		describeInterface(line, v)
	}
	for _, r := range s.Routes {
		line("route: %s by %s", r.Network, r.Gateway)
	}
	line("DNS: %s, search %s", join(s.DNS.Servers), join(s.DNS.Search))
	line("NTP: %v %s", s.NTP.Enabled, join(s.NTP.Servers))
	for _, disk := range s.Disks {
		for _, p := range disk.Table.Partitions {
			if p.Type == esxisim.TypeVMFS {
				line("%s (%s): partition %d, sectors %d to %d", disk.Linux, disk.Name, p.Number, p.First, p.Last)
			}
		}
	}
	for _, v := range s.Volumes {
		if strings.HasPrefix(v.Type, "VMFS-6") {
			line("datastore %q on %v", v.Label, extents(s, v))
		}
	}
	keys, _ := os.ReadFile(d.host.Path("/etc/ssh/keys-root/authorized_keys")) // none if there is none
	line("SSH keys: %d", strings.Count(string(keys), "ssh-"))
	return b.String()
}

func describeInterface(line func(string, ...any), v host.Interface) {
	mac := v.MAC
	if strings.HasPrefix(mac, "00:50:56:") {
		mac = "of VMware's"
	}
	line("%s in %q: MAC %s, MTU %d, tags %s", v.Name, v.Portgroup, mac, v.MTU, join(v.Tags))
	line("  IPv4 %s", strings.Join(strings.Fields(strings.Join([]string{v.IPv4.Type, v.IPv4.Address, v.IPv4.Netmask}, " ")), " "))
	line("  IPv6 %s, DHCP %v, router advertisements %v", join(v.IPv6.Addresses), v.IPv6.DHCP, v.IPv6.RouterAdvertise)
}

func extents(s *host.State, v host.Volume) []string {
	var list []string
	for _, e := range v.Extents {
		i := slices.IndexFunc(s.Disks, func(d host.DiskState) bool { return d.Name == e.Disk })
		list = append(list, fmt.Sprintf("%s:%d", s.Disks[i].Linux, e.Partition))
	}
	return list
}

func join(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, " ")
}
