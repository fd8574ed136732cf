package firstboot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
)

const (
	configs = "../../internal/guest/testdata/curtin"
	node    = "x7dq3k" // the machine in all sample configurations
	secret  = "ExampleTokenSecret00000000000003"
	rsaKey  = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDf ops@lab"
	edKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFQ ada@lab"
)

// tools is the program of the simulated hosts, built once.
var tools string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		// Hundreds of small hosts, which sync what they write: not to a disk, if possible.
		if memory, err := os.Stat("/dev/shm"); err == nil && memory.IsDir() {
			os.Setenv("TMPDIR", "/dev/shm")
		}
		dir, err := os.MkdirTemp("", "esxid-firstboot-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if tools, err = host.BuildTools(context.Background(), dir); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// config is what curtin hands to the hook, as far as the hook passes it on.
type config struct {
	Network section `json:"network"`
	Storage section `json:"storage"`
}

type section struct {
	Version int              `json:"version"`
	Config  []map[string]any `json:"config"`
}

func load(t *testing.T, name, version string) config {
	t.Helper()
	text, err := os.ReadFile(findConfig(name, version))
	if err != nil {
		t.Fatal(err)
	}
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// deployment is one first boot.
type deployment struct {
	t        *testing.T
	hardware host.Hardware
	config   config
	ignored  []string                 // as the hook notes it where the operator only wants warnings
	linux    func(d *host.LinuxDisk)  // changes what Linux knows of a disk; may be nil
	maas     maassim.Machine          // with the defaults of start
	maasAt   string                   // address of MAAS
	refused  int32                    // connections that MAAS does not take at first
	prepare  func(h *host.Host) error // changes the host before it boots; may be nil
	edits    []string                 // of the agent: a file, what is in it, and what comes in its place

	host *host.Host
	sim  *maassim.Sim
	out  string
}

func (d *deployment) ok(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// run boots the host and returns it when the first-boot script has ended.
func (d *deployment) run() {
	d.t.Helper()
	var err error
	d.host, err = host.New(host.Options{Dir: filepath.Join(d.t.TempDir(), "host"), Tools: tools, Hardware: d.hardware})
	d.ok(err)
	if d.prepare != nil {
		d.ok(d.prepare(d.host))
	}
	d.boot()
}

// boot leaves on the host what the hook leaves and lets it boot.
func (d *deployment) boot() {
	d.t.Helper()
	endpoint := d.startMAAS()
	d.store(endpoint)
	var err error
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	d.out, err = d.host.FirstBoot(ctx, guest.FirstBoot())
	if err != nil && !strings.Contains(err.Error(), "exit status 1") {
		d.t.Fatalf("%v: %s", err, d.out)
	}
}

// startMAAS serves the metadata of the machine, as far as the host reaches it.
func (d *deployment) startMAAS() string {
	d.t.Helper()
	var err error
	d.sim, err = maassim.New(maassim.Options{Dir: d.t.TempDir(), Generation: "3.6"})
	d.ok(err)
	m := d.maas
	m.SystemID, m.Key = node, maassim.Key{Consumer: "CK", Token: "TK", Secret: secret}
	if m.Hostname == "" {
		m.Hostname = "esx-node-01.lab.example"
	}
	d.ok(d.sim.AddMachine(m))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	d.ok(err)
	at := netip.AddrPortFrom(netip.MustParseAddr(d.maasAt), l.Addr().(*net.TCPAddr).AddrPort().Port())
	server := &http.Server{Handler: d.sim} //nolint:gosec // G112: for one client on the loopback interface
	late := &refusing{Listener: d.host.Guard(l, at)}
	late.left.Store(d.refused)
	go func() { _ = server.Serve(late) }() // ends with Close
	d.t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String() + "/MAAS/metadata/status/" + node
}

// store leaves the agent and its document on the second boot bank.
func (d *deployment) store(endpoint string) {
	d.t.Helper()
	dir := d.host.Path("/altbootbank/esxid")
	d.ok(os.MkdirAll(dir, 0o755))
	for _, f := range guest.Files() {
		if name, ok := strings.CutPrefix(f.Path, "curtin/firstboot/"); ok {
			d.ok(os.WriteFile(filepath.Join(dir, name), d.edit(name, f.Data), 0o755))
		}
	}
	hw := d.host.Hardware()
	boot := hw.Disks[slices.IndexFunc(hw.Disks, func(x host.Disk) bool { return x.Boot })].Linux
	document := map[string]any{
		"format": 1, "boot_disk": boot, "disks": d.disks(&hw), "ignored": append([]string{}, d.ignored...),
		"network": d.config.Network, "storage": d.config.Storage,
		"reporting": map[string]string{"endpoint": endpoint, "consumer_key": "CK", "token_key": "TK", "token_secret": secret},
	}
	text, err := json.Marshal(document)
	d.ok(err)
	d.ok(os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644))
}

// edit changes a file of the agent, mostly to make it less patient.
func (d *deployment) edit(name string, data []byte) []byte {
	d.t.Helper()
	for e := range slices.Chunk(d.edits, 3) {
		if e[0] != name {
			continue
		}
		if !bytes.Contains(data, []byte(e[1])) {
			d.t.Fatalf("%s has no %q", name, e[1])
		}
		data = bytes.Replace(data, []byte(e[1]), []byte(e[2]), 1)
	}
	return data
}

// disks are the hook's records: MAAS calls the disks as Linux does in all samples.
func (d *deployment) disks(hw *host.Hardware) []map[string]any {
	d.t.Helper()
	var records []map[string]any
	for _, disk := range hw.LinuxDisks() {
		if d.linux != nil {
			d.linux(&disk)
		}
		text, err := json.Marshal(disk)
		d.ok(err)
		var record map[string]any
		d.ok(json.Unmarshal(text, &record))
		known := slices.ContainsFunc(d.config.Storage.Config, func(e map[string]any) bool { return e["type"] == "disk" && e["id"] == disk.Name })
		if known {
			record["maas_id"] = disk.Name
		}
		records = append(records, record)
	}
	return records
}

func (d *deployment) state() *host.State {
	d.t.Helper()
	s, err := d.host.State()
	d.ok(err)
	return s
}

func (d *deployment) log() string {
	d.t.Helper()
	text, err := os.ReadFile(d.host.Path("/altbootbank/esxid/firstboot.log"))
	d.ok(err)
	return string(text)
}

// deployed checks that all is well.
func (d *deployment) deployed() {
	d.t.Helper()
	if m := d.sim.Machine(node); m.State != maassim.Deployed {
		d.t.Fatalf("MAAS has it as %q\n%s", m.State, d.log())
	}
	if err := d.host.Check(); err != nil {
		d.t.Errorf("%v\n%s", err, d.log())
	}
	d.clean()
}

// failed checks that MAAS was told a reason with that text.
func (d *deployment) failed(reason string) {
	d.t.Helper()
	m := d.sim.Machine(node)
	if m.State != maassim.FailedDeployment || !strings.Contains(m.Events[len(m.Events)-1].Description, reason) {
		d.t.Fatalf("MAAS has it as %q: %+v, want the reason %q\n%s", m.State, m.Events, reason, d.log())
	}
	d.clean()
}

// oldNetwork checks that the host is as reachable as after the installation.
func (d *deployment) oldNetwork() {
	d.t.Helper()
	s := d.state()
	v := s.Interface("vmk0")
	if v == nil || len(s.Interfaces) != 1 || v.Portgroup != "Management Network" || v.IPv4.Type != "dhcp" || !slices.Contains(v.Tags, "Management") {
		d.t.Errorf("the interfaces are %+v, not those of the installation", s.Interfaces)
	}
	if w := s.Switches[0]; len(s.Switches) != 1 || !slices.Equal(w.Uplinks, []string{"vmnic0"}) || !slices.Equal(w.Teaming.Active, w.Uplinks) || len(w.Portgroups) != 2 {
		d.t.Errorf("the vSwitches are %+v, not those of the installation", s.Switches)
	}
}

// clean checks that nothing but the log is left, and no credentials anywhere.
func (d *deployment) clean() {
	d.t.Helper()
	entries, err := os.ReadDir(d.host.Path("/altbootbank/esxid"))
	d.ok(err)
	if len(entries) != 1 || entries[0].Name() != "firstboot.log" {
		d.t.Errorf("left on the boot bank: %v", entries)
	}
	found, err := d.host.Secrets(secret)
	d.ok(err)
	if found != nil {
		d.t.Errorf("credentials left in %q", found)
	}
	if fw := d.state().Firewall; len(fw.Custom) > 0 || !fw.Enabled {
		d.t.Errorf("the firewall is %+v", fw)
	}
}

// nics are a machine's, with the MAC addresses of a configuration's physical
// interfaces.
func (c config) nics() []host.NIC {
	var list []host.NIC
	for _, e := range c.Network.Config {
		if e["type"] == "physical" {
			list = append(list, host.NIC{MAC: e["mac_address"].(string), Wire: c.wires()})
		}
	}
	return list
}

// wires are what every switch port carries: the network in which the host's
// installation gets a lease, and the subnets of the configuration.
func (c config) wires() []host.Wire {
	list := []host.Wire{{Subnet: "10.40.0.0/16", Gateway: "10.40.0.1", DHCP: "10.40.3.3", DNS: []string{"10.40.0.2"}}}
	for _, e := range c.Network.Config {
		vlan, _ := e["vlan_id"].(float64) // none is 0
		subnets, _ := e["subnets"].([]any)
		for _, s := range subnets {
			s := s.(map[string]any)
			if p, err := netip.ParsePrefix(fmt.Sprint(s["address"])); err == nil {
				gateway, _ := s["gateway"].(string)
				list = append(list, host.Wire{VLAN: int(vlan), Subnet: p.Masked().String(), Gateway: gateway})
			}
		}
	}
	return list
}
