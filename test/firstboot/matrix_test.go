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

// TestMatrix deploys every machine with every ESXi version and compares what
// became of the host. Versions with the same result share a section of the
// golden file; of a result that differs little from the first one, the section
// has the differences. The table in the documentation follows from these files.
func TestMatrix(t *testing.T) {
	t.Run("machines", func(t *testing.T) {
		for _, m := range machines {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				var results []result
				for _, version := range versions {
					text := outcome(t, m.name, version)
					i := slices.IndexFunc(results, func(r result) bool { return r.text == text })
					if i < 0 {
						i, results = len(results), append(results, result{text: text})
					}
					results[i].versions = append(results[i].versions, version)
				}
				golden(t, goldenFile(m.name), format(results))
			})
		}
	})
	t.Run("documentation", checkTable)
}

func goldenFile(name string) string { return filepath.Join("testdata", name+".txt") }

// result is what some versions make of a machine.
type result struct {
	versions []string
	text     string
}

// What the golden files are made of.
const (
	likeFirst = ": as above, but" // ends the head of a section with differences
	failure   = "  finish FAIL "  // in the line with MAAS's last event
)

// format writes the results into one text.
func format(results []result) string {
	const few = 16 // lines
	var b strings.Builder
	for i, r := range results {
		gone, added := difference(results[0].text, r.text), difference(r.text, results[0].text)
		fmt.Fprintf(&b, "==== ESXi %s", strings.Join(r.versions, ", "))
		state := func(text string) string { line, _, _ := strings.Cut(text, "\n"); return line }
		if i == 0 || len(gone)+len(added) > few || state(r.text) != state(results[0].text) {
			fmt.Fprintf(&b, "\n%s\n", r.text)
			continue
		}
		fmt.Fprintf(&b, "%s\n", likeFirst)
		for _, line := range gone {
			fmt.Fprintf(&b, "not  %s\n", line)
		}
		for _, line := range added {
			fmt.Fprintf(&b, "but  %s\n", line)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// difference are the lines that are in a and not in b.
func difference(a, b string) []string {
	known := strings.Split(b, "\n")
	return slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool { return slices.Contains(known, line) })
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
	ntp, err := s.Service("ntpd").MarshalText()
	d.ok(err)
	line("NTP: %s, %s", join(s.NTP.Servers), ntp)
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
