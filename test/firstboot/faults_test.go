package firstboot

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
)

// Whatever fails, at whatever time and in whatever way: MAAS has the reason, the
// host is on the network that it had after its installation, and nothing but
// the log is left of the first boot. The commands that are made to fail are
// those that a first boot without faults has called.

// busy is what a command says that is told to fail.
const busy = "Sysinfo error: Busy"

// TestAnyCommandFails lets each command that changes something fail once.
func TestAnyCommandFails(t *testing.T) {
	for _, m := range []struct{ config, version string }{
		{"a-dhcp-single-nic", "6.5"},
		{"c-vmfs6-extra-disks", "6.7"},
		{"b-bond-vlans-static", "8.0.3"},
	} {
		eachFault(t, m.config, m.version, changes, host.Fault{Text: busy})
	}
}

// TestAnyCommandFailsLate: the command has done its work before it fails.
func TestAnyCommandFailsLate(t *testing.T) {
	eachFault(t, "e-bond-active-backup-ipv6-routes", "7.0.3", oneOfEach(changes), host.Fault{Text: busy, Late: true})
}

func TestAnyCommandHangs(t *testing.T) {
	eachFault(t, "a-dhcp-single-nic", "7.0.3", oneOfEach(changes), host.Fault{Way: host.Hang, Late: true})
}

// TestAgentIsKilled while any command runs: the script starts it again.
func TestAgentIsKilled(t *testing.T) {
	eachFault(t, "a-dhcp-single-nic", "9.0", changes, host.Fault{Way: host.Kill, Late: true})
}

// TestAnyAnswerIsNonsense: what a command shows cannot be understood.
func TestAnyAnswerIsNonsense(t *testing.T) {
	eachFault(t, "c-vmfs6-extra-disks", "6.7", oneOfEach(func(c host.Call) bool { return !changes(c) && c.Argv[0] != "logger" }),
		host.Fault{Way: host.Nonsense, Text: "Traceback (most recent call last):\n  File \"esxcli\": no"})
}

// TestWayBackFailsToo: what fails on the way back is tried again, and in the end
// with localcli.
func TestWayBackFailsToo(t *testing.T) {
	for _, command := range []string{"esxcli network ip interface add", "esxcli network ip interface ipv4 set", "esxcli network vswitch standard uplink"} {
		for _, times := range []int{2, -1} {
			t.Run(fmt.Sprint(command, " ", times), func(t *testing.T) {
				t.Parallel()
				d := start(t, "b-bond-vlans-static", "8.0.3")
				d.hardware.Faults = []host.Fault{{Command: command, Times: times, Text: busy}}
				d.edits = impatient
				d.run()
				d.failed(command)
				d.undone()
			})
		}
	}
}

// oneOfEach leaves one call of each command, where a fault takes its time.
func oneOfEach(filter func(host.Call) bool) func(host.Call) bool {
	seen := map[string]bool{}
	return func(c host.Call) bool {
		command := strings.Join(slices.DeleteFunc(slices.Clone(c.Argv), func(a string) bool { return strings.HasPrefix(a, "-") }), " ")
		again := seen[command]
		seen[command] = true
		return filter(c) && !again
	}
}

// changes reports whether a call is one that changes the host.
func changes(c host.Call) bool {
	asks := slices.ContainsFunc(c.Argv, func(a string) bool { return a == "list" || strings.HasPrefix(a, "get") })
	return c.Exit == 0 && !asks && c.Argv[0] != "logger"
}

// eachFault runs the first boot once without faults, and then once for each of
// its calls that pass the filter, with a fault in that call.
func eachFault(t *testing.T, config, version string, filter func(host.Call) bool, f host.Fault) {
	t.Helper()
	t.Run(config+"/"+version, func(t *testing.T) {
		t.Parallel()
		good := start(t, config, version)
		good.run()
		good.deployed()
		calls, err := good.host.Calls()
		good.ok(err)
		for i, c := range calls {
			if !filter(c) {
				continue
			}
			t.Run(fmt.Sprintf("%02d %s", i, c), func(t *testing.T) {
				t.Parallel()
				fault := f
				fault.Command, fault.Times = strings.Join(c.Argv, " "), 1
				for _, earlier := range calls[:i] {
					if fault.Concerns(earlier.Argv) {
						fault.Skip++
					}
				}
				d := start(t, config, version)
				d.hardware.Faults = []host.Fault{fault}
				d.edits = impatient
				d.run()
				d.asGood(good, c)
			})
		}
	})
}

// impatient makes the agent give up after seconds: a file, what is in it, and
// what comes in its place.
var impatient = []string{
	"host.py", "TIMEOUT = 120 ", "TIMEOUT = 1 ",
	"restore.py", "TIMEOUT = 30 ", "TIMEOUT = 5 ",
	"maas.py", "PATIENCE = 8 * 60 ", "PATIENCE = 4 ",
	"agent.py", "4 * 60, journal", "4, journal",
}

// asGood checks that the fault did no harm, or that it was undone. Only what
// the agent tries again may be without a consequence.
func (d *deployment) asGood(good *deployment, fault host.Call) {
	d.t.Helper()
	if d.sim.Machine(node).State != maassim.Deployed {
		d.undone()
		return
	}
	d.deployed()
	if diff := cmp.Diff(networkOf(d.t, good.state()), networkOf(d.t, d.state())); diff != "" {
		d.t.Errorf("the host is deployed with another network: -without fault +with\n%s", diff)
	}
	if strings.HasPrefix(fault.String(), "esxcli network ip") || strings.HasPrefix(fault.String(), "esxcli network vswitch") {
		d.t.Errorf("a failed step had no consequence:\n%s", d.log())
	}
}

// undone checks what has to be true after any failure.
func (d *deployment) undone() {
	d.t.Helper()
	m := d.sim.Machine(node)
	if m.State != maassim.FailedDeployment || len(m.Events[len(m.Events)-1].Description) < 10 {
		d.t.Fatalf("MAAS has it as %q: %+v\n%s", m.State, m.Events, d.log())
	}
	reason := m.Events[len(m.Events)-1].Description
	if !strings.Contains(d.log(), "failed: "+reason[:min(40, len(reason))]) {
		d.t.Errorf("MAAS has the reason %q, and the log:\n%s", reason, d.log())
	}
	d.clean()
	installed := d.installed()
	if diff := cmp.Diff(networkOf(d.t, installed), networkOf(d.t, d.state())); diff != "" {
		d.t.Errorf("the network is not the old one: -old +now\n%s\n%s", diff, d.log())
	}
	machine, err := d.host.Machine()
	d.ok(err)
	// The port is one that is always open; the one of the first boot is closed again.
	if err := machine.Reach(netip.MustParseAddrPort(d.maasAt + ":80")); err != nil {
		d.t.Errorf("the host does not reach its old network: %v\n%s", err, d.log())
	}
	if machine.State.Unsaved {
		d.t.Errorf("a restart would bring back what was saved before\n%s", d.log())
	}
}

// installed is the host's state after the installation, but for the address of
// vmk0: the image's is that of all its hosts, so that a failed host gets that of
// its NIC.
func (d *deployment) installed() *host.State {
	d.t.Helper()
	h, err := host.New(host.Options{Dir: filepath.Join(d.t.TempDir(), "installed"), Tools: tools, Hardware: d.hardware})
	d.ok(err)
	s, err := h.State()
	d.ok(err)
	s.Interfaces[0].MAC = h.Hardware().NICs[0].MAC
	return s
}

// networkOf is the part of a state that is about the network, as text.
func networkOf(t *testing.T, s *host.State) string {
	t.Helper()
	interfaces, switches := slices.Clone(s.Interfaces), slices.Clone(s.Switches)
	for i := range interfaces {
		interfaces[i].Port = 0 // a number that grows
	}
	for i := range switches {
		switches[i].Portgroups = slices.Clone(switches[i].Portgroups)
		slices.SortFunc(switches[i].Portgroups, func(a, b host.Portgroup) int { return strings.Compare(a.Name, b.Name) })
	}
	text, err := json.MarshalIndent([]any{switches, interfaces, s.Routes, s.DNS}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
