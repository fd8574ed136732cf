package firstboot

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
	"github.com/esxid/esxid/test/vcentersim"
)

// joinData asks for the vCenter in the tests.
const joinData = "write_files: [{path: /altbootbank/maas/vcenter.yaml, content: \"vcenter_datacenter: DC1\\nvcenter_password: " + vcenterPassword +
	"\\nvcenter_server: " + vcenterName + "\\nvcenter_username: joiner@vsphere.local\\n\"}]"

const (
	vcenterName     = "vc.lab.example"
	vcenterAt       = "10.40.0.9"
	vcenterPassword = "example-Passw0rd!"
	joinAccount     = "esxid-join"
)

// joining is a deployment whose host is to join a vCenter.
type joining struct {
	*deployment
	options vcentersim.Options
	vcenter *vcentersim.Sim
	trusted bool // the image has vCenter's authority
	down    bool // nobody answers
	seen    []vcentersim.Host
}

// eachJoin runs a test with versions of the old and the new ways of a host; the
// older host meets an older vCenter.
func eachJoin(t *testing.T, test func(t *testing.T, j *joining)) {
	t.Helper()
	eachVersion(t, both, func(t *testing.T, d *deployment) {
		d.maas.VendorData = vendorData(joinData)
		test(t, newJoining(d))
	})
}

func newJoining(d *deployment) *joining {
	j := &joining{deployment: d, trusted: true}
	j.options = vcentersim.Options{
		Names: []string{vcenterName}, User: "joiner@vsphere.local", Password: vcenterPassword,
		Datacenters: []string{"DC0", "DC1"}, Old: strings.HasPrefix(d.hardware.ESXi, "6."), Login: j.login,
	}
	return j
}

// login is vCenter's on the host: with an account that has all rights, and only
// if the host shows the certificate that vCenter was told of.
func (j *joining) login(h vcentersim.Host) error {
	j.seen = append(j.seen, h)
	s, err := j.host.State()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(j.host.Path("/etc/vmware/ssl/rui.crt"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	sum := sha1.Sum(block.Bytes)
	var digits []string
	for _, b := range sum {
		digits = append(digits, fmt.Sprintf("%02X", b))
	}
	u := s.User(h.User)
	switch {
	case h.Name != s.FQDN() || s.Certificate.CommonName != h.Name:
		return fmt.Errorf("%s is called %s and shows the certificate of %s", h.Name, s.FQDN(), s.Certificate.CommonName)
	case h.Thumbprint != strings.Join(digits, ":"):
		return errors.New("the certificate has another thumbprint")
	case u == nil || u.Password != host.Digest(h.Password) || u.Role != "Admin":
		return errors.New("incorrect user name or password")
	}
	return nil
}

// join runs the deployment with vCenter on the host's network. vCenter's
// patience is cut: what the host would do for minutes takes seconds.
func (j *joining) join() {
	j.t.Helper()
	var err error
	j.host, err = host.New(host.Options{Dir: j.t.TempDir() + "/host", Tools: tools, Hardware: j.hardware})
	j.ok(err)
	if j.prepare != nil {
		j.ok(j.prepare(j.host))
	}
	j.vcenter, err = vcentersim.New(j.options)
	j.ok(err)
	j.t.Cleanup(j.vcenter.Close)
	forwards := []host.Forward{{Address: vcenterAt + ":443", Name: vcenterName, To: j.vcenter.Addr().String()}}
	if j.down {
		j.vcenter.Close()
	}
	endpoint := j.startMAAS()
	server := strings.Split(endpoint, "/")[2]
	at := strings.Replace(server, "127.0.0.1", j.maasAt, 1)
	j.store(strings.Replace(endpoint, server, at, 1))
	j.edit("/altbootbank/esxid/vcenter.py", "PATIENCE = 5 * 60 ", "PATIENCE = 2 ")
	if j.trusted {
		ca, err := json.Marshal(string(j.vcenter.CA()))
		j.ok(err)
		j.edit("/altbootbank/esxid/config.json", "{", "{\"vcenter_ca\": "+string(ca)+",")
	}
	ctx, cancel := context.WithTimeout(j.t.Context(), time.Minute)
	defer cancel()
	j.out, err = j.host.FirstBoot(ctx, guest.FirstBoot(), append(forwards, host.Forward{Address: at, To: server})...)
	if err != nil && !strings.Contains(err.Error(), "exit status 1") {
		j.t.Fatalf("%v: %s", err, j.out)
	}
	j.noTraces()
}

// edit changes a file on the host, once.
func (j *joining) edit(path, from, to string) {
	j.t.Helper()
	text, err := os.ReadFile(j.host.Path(path))
	j.ok(err)
	if !bytes.Contains(text, []byte(from)) {
		j.t.Fatalf("%s has no %q", path, from)
	}
	j.ok(os.WriteFile(j.host.Path(path), bytes.Replace(text, []byte(from), []byte(to), 1), 0o644))
}

// noTraces checks that nothing of the account and the passwords is left, be the
// deployment good or not.
func (j *joining) noTraces() {
	j.t.Helper()
	secrets := []string{vcenterPassword}
	for _, h := range j.seen {
		secrets = append(secrets, h.Password)
		if h.User != joinAccount || len(h.Password) < 20 {
			j.t.Errorf("vCenter got the account %q with %d characters of a password", h.User, len(h.Password))
		}
	}
	found, err := j.host.Secrets(secrets...)
	j.ok(err)
	if found != nil {
		j.t.Errorf("passwords left in %q", found)
	}
	calls, err := j.host.Calls()
	j.ok(err)
	for _, c := range calls {
		if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(c.String(), s) }) {
			j.t.Errorf("a password was an argument: %s", c)
		}
	}
	if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(j.out+j.events(), s) }) {
		j.t.Error("a password was shown")
	}
	if u := j.state().User(joinAccount); u != nil {
		j.t.Errorf("the account %s is still there", joinAccount)
	}
	if _, err := os.Stat(j.host.Path("/altbootbank/maas/vcenter.yaml")); !os.IsNotExist(err) {
		j.t.Errorf("MAAS's file is on the boot bank: %v", err)
	}
	killed := slices.ContainsFunc(j.hardware.Faults, func(f host.Fault) bool { return f.Way == host.Kill })
	if !j.down && !killed && j.vcenter.Sessions() != 0 {
		j.t.Error("a session is still open")
	}
}

// refused checks that the deployment failed for a reason, with the old network
// and no datastore, and that vCenter does not have the host.
func (j *joining) refused(reason string) {
	j.t.Helper()
	j.failed(reason)
	j.oldNetwork()
	if j.state().Volume("datastore1") != nil {
		j.t.Error("a disk was changed before vCenter was asked")
	}
	if len(j.seen) > 0 {
		j.t.Errorf("vCenter was to add %+v", j.seen)
	}
}

func TestVCenter(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.join()
		j.deployed()
		if hosts := j.vcenter.Hosts(); len(hosts) != 1 || hosts[0].Name != "esx-node-01.lab.example" || hosts[0].Folder != "group-h2" {
			t.Errorf("vCenter has %+v", hosts)
		}
		if !strings.Contains(j.events(), "SSH keys, vCenter vc.lab.example\n") {
			t.Errorf("the events are %s", j.events())
		}
		calls, err := j.host.Calls()
		j.ok(err)
		call := func(part string) int {
			return slices.IndexFunc(calls, func(c host.Call) bool { return strings.Contains(c.String(), part) })
		}
		if removed := call("system account remove --id=" + joinAccount); removed < 0 || removed > call("auto-backup.sh") {
			t.Error("the account was saved before it was removed")
		}
	})
}

// TestAccountOfAKilledRunIsRemoved: a host that was switched off while it joined
// boots with the account.
func TestAccountOfAKilledRunIsRemoved(t *testing.T) {
	t.Parallel()
	eachVersion(t, both, func(t *testing.T, d *deployment) {
		d.prepare = func(h *host.Host) error {
			return h.Change(func(m *host.Machine) {
				m.State.Users = append(m.State.Users, host.User{Name: joinAccount, Role: "Admin", Shell: true})
			})
		}
		d.run()
		d.deployed()
		if d.state().User(joinAccount) != nil {
			t.Error("the account is still there")
		}
	})
}

func TestVCenterFileOfSomebodyElseIsRemoved(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.prepare = func(h *host.Host) error {
			return errors.Join(os.Mkdir(h.Path("/altbootbank/maas"), 0o755),
				os.WriteFile(h.Path("/altbootbank/maas/vcenter.yaml"), []byte("vcenter_password: "+vcenterPassword+"\n"), 0o644))
		}
		j.join()
		j.deployed()
	})
}

func TestVCenterDown(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.down = true
		j.join()
		j.refused("cannot reach vCenter vc.lab.example: ")
	})
}

func TestVCentersCertificateNotTrusted(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.trusted = false
		j.join()
		j.refused("the certificate of vCenter vc.lab.example is not trusted: ")
	})
}

func TestVCentersCertificateOfAnotherName(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.options.Names = []string{"other.lab.example"}
		j.join()
		j.refused("the certificate of vCenter vc.lab.example is not trusted: Hostname mismatch")
	})
}

func TestVCenterRefusesThePassword(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.options.Password = "another"
		j.join()
		j.refused("vCenter vc.lab.example refused: status 401: Authentication required.")
	})
}

func TestVCenterWithoutTheDatacenter(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.options.Datacenters = []string{"DC0"}
		j.join()
		j.refused("vCenter vc.lab.example has no datacenters called 'DC1'")
	})
}

// TestVCenterHasTheHost: a host that was deployed before is not thrown out.
func TestVCenterHasTheHost(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.options.Inventory = []vcentersim.Host{{Name: "esx-node-01.lab.example", State: "NOT_RESPONDING"}}
		j.join()
		j.refused("has a host esx-node-01.lab.example already (NOT_RESPONDING): remove it there first")
	})
}

// TestVCenterCannotAddTheHost: vCenter's own reason comes through, and the
// account goes.
func TestVCenterCannotAddTheHost(t *testing.T) {
	t.Parallel()
	eachJoin(t, func(t *testing.T, j *joining) {
		j.options.Login = func(h vcentersim.Host) error {
			j.seen = append(j.seen, h)
			return fmt.Errorf("no licence for %s and %s", h.User, h.Password)
		}
		j.join()
		j.failed("refused: status 400: Cannot complete login to the host: no licence for esxid-join and ***")
		j.oldNetwork()
		if len(j.seen) != 1 {
			t.Errorf("vCenter was asked %d times", len(j.seen))
		}
	})
}

// TestVCenterNotConfigured: MAAS sends what is set there.
func TestVCenterNotConfigured(t *testing.T) {
	t.Parallel()
	eachVersion(t, both, func(t *testing.T, d *deployment) {
		d.maas = maassim.Machine{VendorData: vendorData("write_files: [{path: /altbootbank/maas/vcenter.yaml, content: 'vcenter_server: vc'}]")}
		d.run()
		d.failed("vCenter: vcenter_username and vcenter_password is not set in MAAS")
		d.oldNetwork()
	})
}

// TestAnyCommandFailsWhileJoining: whatever becomes of the deployment, no
// account stays, and a host is deployed only with all that was asked for.
func TestAnyCommandFailsWhileJoining(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]host.Fault{
		"fails": {Text: busy}, "kills the agent": {Way: host.Kill, Late: true},
	} {
		for command, version := range map[string]string{
			"esxcli system account add": "8.0.3", "esxcli system permission set": "8.0.3", "esxcli system permission unset": "8.0.3",
			"esxcli system account remove": "8.0.3", "esxcli system account list": "6.7", "esxcli system ntp set": "8.0.3",
			"chkconfig ntpd on": "6.7", "ntpd restart": "6.7", "esxcli network firewall ruleset set": "6.7",
		} {
			t.Run(name+"/"+command, func(t *testing.T) {
				t.Parallel()
				d := start(t, "a-dhcp-single-nic", version)
				d.maas.VendorData = vendorData("ntp: {servers: [10.40.0.2]}", joinData)
				fault.Command, fault.Times = command, 1
				d.hardware.Faults = []host.Fault{fault}
				j := newJoining(d)
				j.join()
				if d.sim.Machine(node).State != maassim.Deployed {
					d.undone()
					return
				}
				d.deployed()
				if s := d.state(); !s.NTP.Enabled || len(j.vcenter.Hosts()) != 1 {
					t.Errorf("it is deployed, with NTP %+v and in vCenter %+v", s.NTP, j.vcenter.Hosts())
				}
			})
		}
	}
}
