package firstboot

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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

func load(t *testing.T, name string) config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(configs, name+".json"))
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
	ignored  []string                // as the hook notes it where the operator only wants warnings
	linux    func(d *host.LinuxDisk) // changes what Linux knows of a disk; may be nil
	maas     maassim.Machine         // with the defaults of start

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
	at := netip.AddrPortFrom(netip.MustParseAddr("10.40.0.2"), l.Addr().(*net.TCPAddr).AddrPort().Port())
	server := &http.Server{Handler: d.sim}                //nolint:gosec // G112: for one client on the loopback interface
	go func() { _ = server.Serve(d.host.Guard(l, at)) }() // ends with Close
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
			d.ok(os.WriteFile(filepath.Join(dir, name), f.Data, 0o755))
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

// diskOf are the disks of the sample machines, by configuration.
var diskOf = map[string][]host.Disk{
	"a-dhcp-single-nic": {{Linux: "nvme0n1", Bus: "nvme", Model: "SAMSUNG MZVLB480", Serial: "S4EMNX0R1", EUI: "0025388a01b2c3d4", Size: 480103981056}},
	"b-bond-vlans-static": {
		{Linux: "sda", Bus: "sata", Model: "SAMSUNG MZ7LH960", Serial: "S45NEX0N100001", Size: 960197124096},
		{Linux: "sdb", Bus: "sata", Model: "SAMSUNG MZ7L31T9", Serial: "S6ESNE0T200002", Size: 1920383410176},
	},
	"c-vmfs6-extra-disks": {
		{Linux: "sdc", Bus: "sata", Model: "ST4000NM0035-1V4107", Serial: "ZC100002", SerialRight: true, Rotating: true, Size: 4000787030016},
		{Linux: "sda", Bus: "sata", Model: "INTEL SSDSC2KB240G8", Serial: "BTYF00000001240AGN", Size: 240057409536, Boot: true},
		{Linux: "sdb", Bus: "sata", Model: "ST4000NM0035-1V4107", Serial: "ZC100001", SerialRight: true, Rotating: true, Size: 4000787030016},
	},
	"c2-vmfs7-bios-extra-disk": {
		{Linux: "sda", Bus: "raid", Vendor: "DELL", Model: "PERC H730 Mini", Serial: "00aa", WWN: "6d0946606ab1230027a1b2c30d11aa01", Size: 479559942144},
		{Linux: "sdb", Bus: "raid", Vendor: "DELL", Model: "PERC H730 Mini", Serial: "00bb", WWN: "6d0946606ab1230027a1b2c30d11aa02", Size: 1919850381312},
	},
	"d-flat-default": {{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00001", Size: 68719476736}},
	"d2-flat-bios":   {{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00002", Size: 68719476736}},
	"e-bond-active-backup-ipv6-routes": {
		{Linux: "sda", Bus: "sas", Vendor: "SAMSUNG", Model: "MZILT800HBHQ0D3", Serial: "S5G1NE0R300007", WWN: "5002538b1234a5b0", Size: 800166076416},
	},
	"f-unsupported": {{Linux: "sda", Bus: "sata", Model: "INTEL SSDSC2KG240G8", Serial: "PHYG00000002240AGN", Size: 240057409536}},
	"g-nvme-two-disks-no-serial": {
		{Linux: "nvme1n1", Bus: "nvme", Model: "INTEL SSDPE2KX040T8", EUI: "5cd2e42a81a50002", Size: 3840755982336},
		{Linux: "nvme0n1", Bus: "nvme", Model: "INTEL SSDPE2KX016T8", EUI: "5cd2e42a81a50001", Size: 1600321314816, Boot: true},
	},
}

// start is the deployment of a sample configuration with an ESXi version.
func start(t *testing.T, name, version string) *deployment {
	t.Helper()
	c := load(t, name)
	hw := host.Hardware{Name: name, ESXi: version, NICs: c.nics(), Disks: slices.Clone(diskOf[name])}
	return &deployment{t: t, hardware: hw, config: c, maas: maassim.Machine{PublicKeys: []string{rsaKey, edKey}}}
}

// samples are the names of all configurations, sorted.
func samples() []string { return slices.Sorted(maps.Keys(diskOf)) }
