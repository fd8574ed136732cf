package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/publish/maas"
	"github.com/esxid/esxid/test/curtin"
	"github.com/esxid/esxid/test/esxisim"
	sim "github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
)

// machine is a case: a configuration of MAAS's, and the hardware it is for.
type machine struct {
	version  string // of ESXi
	config   string // file
	hardware string // JSON, without name and version
	check    func(t *testing.T, s *sim.State)
}

// nvme has names on Linux, and in the configuration, of which ESXi has none.
var nvme = machine{
	version: "9.0", config: samples + "g-nvme-two-disks-no-serial.json",
	hardware: `"nics": [{"mac": "02:00:5e:80:00:01", "wire": [{"subnet": "10.40.0.0/16", "gateway": "10.40.0.1", "dhcp": "10.40.3.3"}]}],
		"disks": [{"linux": "nvme1n1", "bus": "nvme", "model": "INTEL SSDPE2KX040T8", "eui": "5cd2e42a81a50002", "size": 3840755982336},
		{"linux": "nvme0n1", "bus": "nvme", "model": "INTEL SSDPE2KX016T8", "eui": "5cd2e42a81a50001", "size": 1600321314816, "boot": true}]`,
	check: func(t *testing.T, s *sim.State) {
		v := s.Volume("datastore1")
		if v == nil || len(v.Extents) != 2 || v.Extents[0].Partition != 8 || !strings.HasSuffix(v.Extents[1].Disk, "_0200A5812AE4D25C") {
			t.Errorf("datastore1 is %+v", v)
		}
	},
}

// bond is of two NICs and has management on a VLAN; the disk is SAS. Its image
// has the layout with the fewest zeros to unpack.
var bond = machine{
	version: "6.7", config: "../firstboot/testdata/curtin/bond-vlans.json",
	hardware: `"nics": [{"mac": "02:00:5e:a9:00:01"}, {"mac": "02:00:5e:a9:00:02"}],
		"disks": [{"linux": "sda", "bus": "sas", "vendor": "SEAGATE", "model": "ST300MM0048", "serial": "BTYF00000009240AGN", "wwn": "5000c500a0000001", "size": 240057409536}]`,
	check: func(t *testing.T, s *sim.State) {
		w, v := s.Switch("vSwitch0"), s.Interface("vmk0")
		if !slices.Equal(w.Uplinks, []string{"vmnic0", "vmnic1"}) || v.Portgroup != "bond0.90" || v.IPv4.Address != "10.90.0.20" {
			t.Errorf("vSwitch0 is %+v, vmk0 %+v", w, v)
		}
		if d := s.Volume("datastore1"); d == nil || d.Extents[0].Disk != "naa.5000c500a0000001" || d.Extents[0].Partition != 3 {
			t.Errorf("datastore1 is %+v", d)
		}
	},
}

// write writes the hardware file.
func (m machine) write(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "hardware.json")
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"name": "x", "esxi": %q, %s}`, m.version, m.hardware), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// image makes the disk of an installation with the payload in it.
func (m machine) image(t *testing.T, l esxisim.LayoutOptions) string {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	if err := esxisim.WriteDisk(disk, esxisim.DiskOptions{
		Options: esxisim.Options{Version: m.version, PayloadMiB: 1}, LayoutOptions: l, FirstBoot: []string{string(guest.FirstBoot())},
	}); err != nil {
		t.Fatal(err)
	}
	for _, f := range guest.Files() {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const esp = 64 * esxisim.Sector
	if out, err := exec.Command("mcopy", "-s", "-i", fmt.Sprintf("%s@@%d", disk, esp), filepath.Join(dir, "curtin"), "::").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return disk
}

// metadata is a directory with what MAAS's metadata service has for the machine.
func metadata(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"local-hostname": "esx1.lab.example",
		"vendor-data":    `cloud-init: "#cloud-config\nntp: {servers: [10.40.0.2]}\nwrite_files: [{path: /altbootbank/maas/rack, content: r1}]\n"` + "\n",
		"user-data":      "#!/bin/sh -e\n[ \"$(cat /altbootbank/maas/rack)\" = r1 ]\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// checkOutcome: MAAS calls the host deployed, and it is as it should be.
func (m machine) checkOutcome(t *testing.T, text []byte) {
	t.Helper()
	var got outcome
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	n := len(got.MAAS.Events)
	if got.MAAS.State != maassim.Deployed || n == 0 || got.MAAS.Events[n-1].Name != "esxid-firstboot/user-data" || got.MAAS.Events[n-1].Result != "SUCCESS" {
		t.Fatalf("MAAS saw %+v\n%s", got.MAAS, got.Host.Console)
	}
	if s := got.Host.State; got.Host.Problems != nil || s.FQDN() != "esx1.lab.example" || !s.NTP.Enabled || !slices.Equal(s.NTP.Servers, []string{"10.40.0.2"}) {
		t.Errorf("problems %q; the host is\n%s", got.Host.Problems, text)
	}
	const log = "/altbootbank/esxid/firstboot.log"
	if len(got.Host.Files) != 1 || got.Host.Files[log] == "" || bytes.Contains(text, []byte("ExampleTokenSecret")) {
		t.Errorf("the second bank holds %v", got.Host.Files)
	}
	m.check(t, &got.Host.State)
}

// limited is a context for a machine's whole way, which takes about 20 seconds
// where nothing else runs.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// newMAAS serves a MAAS.
func newMAAS(t *testing.T) (stand *maassim.Sim, address string) {
	t.Helper()
	stand, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: "3.6"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(stand)
	t.Cleanup(server.Close)
	return stand, server.URL + "/MAAS"
}

// TestFirstBoot: hook and agent, each in its own virtual machine, make a host
// that MAAS calls deployed.
func TestFirstBoot(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	b := firstBoot{wanted: true, hardwareFile: nvme.write(t), metadata: metadata(t)}
	size, err := b.load()
	if err != nil || size != 1600321314816 {
		t.Fatalf("the boot disk has %d bytes (%v)", size, err)
	}
	text, err := os.ReadFile(nvme.config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := curtin.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	disk := nvme.image(t, esxisim.LayoutOptions{MediaSize: "min", NoVMFS: true})
	if err := os.Truncate(disk, size); err != nil {
		t.Fatal(err)
	}
	r, err := curtin.Deployment{Config: c, Disk: disk, Machine: b.hardware.Disks}.Run(ctx)
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("exit code %d, %v\n%s", r.ExitCode, err, r.Log)
	}
	checkRecords(t, disk, b.hardware)
	var out bytes.Buffer
	stand, address := newMAAS(t)
	if err := b.run(ctx, address, stand.AdminKey(), disk, text, &out); err != nil {
		t.Fatal(err)
	}
	nvme.checkOutcome(t, out.Bytes())
}

// checkRecords compares what the hook has recorded of the disks with what the
// simulated host says that Linux knows of them, which faster tests rely on.
func checkRecords(t *testing.T, disk string, hw sim.Hardware) {
	t.Helper()
	const bank2 = 8597504 * esxisim.Sector
	text, err := exec.Command("mtype", "-i", fmt.Sprintf("%s@@%d", disk, bank2), "::esxid/config.json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Disks []map[string]any }
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(hw.LinuxDisks()); err != nil {
		t.Fatal(err)
	}
	var want []map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(document.Disks) != len(want) {
		t.Fatalf("the hook records %d disks, the simulator %d", len(document.Disks), len(want))
	}
	for i, d := range document.Disks {
		keys := slices.Sorted(maps.Keys(want[i]))
		d, id := maps.Clone(d), d["maas_id"]
		delete(d, "maas_id")
		if id != want[i]["name"] || !slices.Equal(slices.Sorted(maps.Keys(d)), keys) {
			t.Errorf("the hook records %v, the simulator %v", document.Disks[i], want[i])
		}
		for _, key := range []string{"name", "path", "size", "block_size", "eui", "nguid", "wwid"} { // the rest is QEMU's
			if d[key] != want[i][key] {
				t.Errorf("%s: the hook records %s %v, the simulator %v", want[i]["name"], key, d[key], want[i][key])
			}
		}
	}
}

// TestDeployAndBoot: the whole command, from an image in MAAS.
func TestDeployAndBoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	packed, key := filepath.Join(dir, "image.dd.gz"), filepath.Join(dir, "key")
	p, err := image.Pack(t.Context(), bond.image(t, esxisim.LayoutOptions{USB: true}), packed, image.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stand, address := newMAAS(t)
	if err := os.WriteFile(key, []byte(stand.AdminKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := maas.New(config.Target{Type: "maas", Name: "lab", URL: address, APIKeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	img := publish.Image{Path: packed, Name: "esxi/6.7", Title: "ESXi 6.7", Architecture: "amd64/generic", SHA256: p.SHA256, Size: p.PackedSize}
	if _, err := client.Publish(t.Context(), img, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	cmd := newDeployCommand()
	cmd.SetArgs([]string{"--url=" + address, "--key-file=" + key, "--name=esxi/6.7", "--curtin=" + bond.config, "-o", filepath.Join(dir, "disk.raw"),
		"--boot", "--hardware=" + bond.write(t), "--metadata=" + metadata(t)})
	var out, log bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&log)
	if err := cmd.ExecuteContext(limited(t)); err != nil {
		t.Fatalf("%v: %s%s", err, log.Bytes(), out.Bytes())
	}
	before, result, _ := bytes.Cut(out.Bytes(), []byte("\n{\n"))
	if !bytes.Contains(before, []byte("hook found on partition 1")) {
		t.Errorf("the deployment says\n%s", before)
	}
	bond.checkOutcome(t, append([]byte("{\n"), result...))
}

func TestFirstBootRefusals(t *testing.T) {
	for _, c := range []struct {
		b    firstBoot
		text string
		want string
	}{
		{firstBoot{wanted: true}, "", "--boot needs --hardware"},
		{firstBoot{wanted: true, hardwareFile: "nowhere.json"}, "", "no such file"},
		{firstBoot{}, `{"reporting": {"maas": {"endpoint": "http://maas.example/MAAS/metadata/status/x"}}}`, "no address with a port"},
		{firstBoot{metadata: "/dev/null"}, `{"reporting": {"maas": {"endpoint": "http://10.0.0.1:5248/MAAS/metadata/status/x"}}}`, "not a directory"},
	} {
		_, err := c.b.load()
		if err == nil {
			_, _, err = c.b.machine([]byte(c.text))
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.b, err, c.want)
		}
	}
}
