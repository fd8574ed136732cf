package firstboot

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
)

// What users of ESXi on MAAS have run into with the first boot and its security,
// and what happens here. What concerns the hook, vCenter and user-data is in
// their own tests.

func TestFailedStepLeavesNoCredentials(t *testing.T) {
	t.Parallel()
	d := start(t, "b-bond-vlans-static", "8.0.3")
	d.hardware.Faults = []host.Fault{{Command: "vmkfstools", Times: -1, Text: "No space left on device"}}
	d.run()
	d.failed("No space left on device") // which looks for them everywhere
	d.undone()
}

// Deployed is only reported when the datastores are there.
func TestFailedDatastoreIsNotDeployed(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"partedUtil mklabel", "partedUtil add", "vmkfstools -C", "vmkfstools -Z"} {
		d := start(t, "c-vmfs6-extra-disks", "6.7")
		d.hardware.Faults = []host.Fault{{Command: command, Times: 1, Text: busy}}
		d.run()
		d.failed(command)
		d.undone()
	}
}

// The log is on the boot bank, complete, after success and after failure.
func TestLogSurvivesAReboot(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"", "esxcli network ip interface add"} {
		d := start(t, "a-dhcp-single-nic", "7.0.3")
		want := "this host is configured, and MAAS knows"
		if fault != "" {
			d.hardware.Faults = []host.Fault{{Command: fault, Times: 1, Text: busy}}
			want = "failed: " + fault
		}
		d.run()
		text, err := os.ReadFile(d.host.Path("/altbootbank/esxid/firstboot.log"))
		if err != nil || !strings.Contains(string(text), "plan: esxcli network ip interface add") || !strings.Contains(string(text), want) {
			t.Errorf("%v: the log is\n%s", err, text)
		}
	}
}

// The firewall is never switched off, and only MAAS's port is opened, for the
// time of the first boot.
func TestFirewallStaysOn(t *testing.T) {
	t.Parallel()
	d := start(t, "a-dhcp-single-nic", "8.0.3")
	const line = "    known = host.fields("
	d.edits = []string{"identity.py", line, "    open('/tmp/rules', 'w').write(host.esxcli('network', 'firewall', 'ruleset', 'rule', 'list'))\n" + line}
	d.run()
	d.deployed()
	rules, err := os.ReadFile(d.host.Path("/tmp/rules"))
	d.ok(err)
	var own []string
	for line := range strings.Lines(string(rules)) {
		if f := strings.Fields(line); f[0] == "esxid" {
			own = append(own, strings.Join(f[1:4], " "))
			if f[4] != f[5] {
				t.Errorf("more than a port is open: %s", line)
			}
		}
	}
	if !slices.Equal(own, []string{"Outbound TCP Dst"}) {
		t.Errorf("the rules while MAAS was asked: %q", own)
	}
	for _, c := range d.commands() {
		if strings.HasPrefix(c, "esxcli network firewall set") {
			t.Errorf("the firewall was changed as a whole: %s", c)
		}
	}
}

// The new network stands, but does not lead to MAAS.
func TestNetworkThatDoesNotReachMAASIsUndone(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"6.5", "8.0.3"} {
		d := withNetwork(t, version, physical(1, "["+static+"]"))
		for i := range d.hardware.NICs[0].Wire {
			if w := &d.hardware.NICs[0].Wire[i]; w.Gateway == "10.50.0.1" {
				w.Gateway = "" // the router has another address than MAAS thinks
			}
		}
		d.edits = impatient
		d.run()
		d.failed("cannot reach MAAS at")
		d.undone()
	}
}

// MAAS is told over the network that has reached it, before that one goes.
func TestReasonIsToldOverTheNetworkThatReachesMAAS(t *testing.T) {
	t.Parallel()
	d := withNetwork(t, "8.0.3", physical(1, "["+static+"]"))
	d.maasAt = "10.50.0.9"
	d.hardware.NICs[0].Wire[0].Gateway = "" // the old network leads nowhere
	d.hardware.Faults = []host.Fault{{Command: "vmkfstools -C", Times: 1, Text: busy}}
	d.edits = impatient
	d.run()
	d.failed(busy)
	if v := d.state().Interfaces; len(v) != 1 || v[0].Portgroup != "Management Network" {
		t.Errorf("the interfaces are %+v", v)
	}
}

// hostd does not come back after the restart for the certificate, and esxcli
// does not work without it.
func TestOldNetworkIsBackWithoutHostd(t *testing.T) {
	t.Parallel()
	d := start(t, "b-bond-vlans-static", "8.0.3")
	d.edits = append([]string{"host.py", "HOSTD_PATIENCE = 180 ", "HOSTD_PATIENCE = 1 ", "identity.py", `host.run(path(service), "restart")`, `host.run(path(service), "stop")`}, impatient...)
	d.run()
	d.failed("hostd does not answer")
	d.undone()
}

// An agent that is killed each time it is started cannot tell MAAS, but the
// script that starts it removes what must not stay.
func TestAgentThatIsAlwaysKilledLeavesNoCredentials(t *testing.T) {
	t.Parallel()
	d := start(t, "a-dhcp-single-nic", "7.0.3")
	d.hardware.Faults = []host.Fault{{Command: "esxcli", Times: -1, Way: host.Kill}}
	d.run()
	d.clean()
	if !strings.Contains(strings.Join(d.state().Log, "\n"), "could not be configured") {
		t.Errorf("the system's log is %q", d.state().Log)
	}
}

// Up to 7.0 Update 1 each host gets a system UUID of its own. Later the log says
// that it has not.
func TestHostsOfOneImageHaveTheirOwnUUID(t *testing.T) {
	t.Parallel()
	for version, renewed := range map[string]bool{"6.5": true, "6.7": true, "7.0.3": false, "8.0.3": false, "9.0": false} {
		d := start(t, "d-flat-default", version)
		d.run()
		d.deployed()
		if got := d.state().UUID != d.installed().UUID; got != renewed {
			t.Errorf("%s: the UUID is another: %v, want %v", version, got, renewed)
		}
		if said := strings.Contains(d.log(), "KB 84280"); said == renewed {
			t.Errorf("%s: the log says that the UUID is the image's: %v", version, said)
		}
	}
}

// The certificate that the installation made is for localhost.localdomain.
func TestCertificateHasTheHostsName(t *testing.T) {
	t.Parallel()
	d := start(t, "d-flat-default", "8.0.3")
	d.maas = maassim.Machine{Hostname: "esx-77.rack-4.example"}
	d.run()
	d.deployed()
	if c := d.state().Certificate; c.CommonName != "esx-77.rack-4.example" || c.Generation != 1 {
		t.Errorf("the certificate is %+v", c)
	}
}
