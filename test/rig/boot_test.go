package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/test/curtin"
	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/maassim"
)

// deployed makes the disk of a host right after its deployment: the image of an
// installation with the payload in it, on which the hook has run.
func deployed(t *testing.T, version string, config []byte, size int64) string {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	if err := esxisim.WriteDisk(disk, esxisim.DiskOptions{
		Options: esxisim.Options{Version: version, PayloadMiB: 1}, LayoutOptions: esxisim.LayoutOptions{MediaSize: "min", NoVMFS: true},
		FirstBoot: []string{string(guest.FirstBoot())},
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
	if err := os.Truncate(disk, size); err != nil {
		t.Fatal(err)
	}
	c, err := curtin.ParseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := curtin.Deployment{Config: c, Disk: disk}.Run(t.Context())
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("exit code %d, %v\n%s", r.ExitCode, err, r.Log)
	}
	return disk
}

// TestFirstBoot: hook and agent, each in its own virtual machine, make a host
// that MAAS calls deployed.
func TestFirstBoot(t *testing.T) {
	dir := t.TempDir()
	const size = 64 << 30
	hardware, metadata := filepath.Join(dir, "hardware.json"), filepath.Join(dir, "metadata")
	if err := os.Mkdir(metadata, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		hardware: fmt.Sprintf(`{"name": "d", "esxi": "8.0.3", "nics": [{"mac": "02:00:5e:40:00:01"}],
			"disks": [{"linux": "sda", "bus": "sata", "model": "QEMU HARDDISK", "serial": "QM00001", "size": %d}]}`, int64(size)),
		metadata + "/local-hostname": "esx1.lab.example",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	maas, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: "3.6"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(maas)
	defer server.Close()
	b := firstBoot{wanted: true, hardwareFile: hardware, metadata: metadata}
	if got, err := b.load(); err != nil || got != size {
		t.Fatalf("the boot disk has %d bytes (%v)", got, err)
	}
	var out bytes.Buffer
	if err := b.run(t.Context(), server.URL+"/MAAS", maas.AdminKey(), deployed(t, "8.0.3", text, size), text, &out); err != nil {
		t.Fatal(err)
	}
	var got outcome
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if n := len(got.MAAS.Events); got.MAAS.State != maassim.Deployed || n == 0 || got.MAAS.Events[n-1].Result != "SUCCESS" {
		t.Errorf("MAAS saw %+v\n%s", got.MAAS, got.Host.Console)
	}
	s := got.Host.State
	v := s.Interface("vmk0")
	if got.Host.Problems != nil || s.FQDN() != "esx1.lab.example" || v.IPv4.Address != "10.40.7.55" || len(v.IPv6.Addresses) != 1 || s.Volume("datastore1") == nil {
		t.Errorf("problems %q; the host is\n%s", got.Host.Problems, out.Bytes())
	}
	const log = "/altbootbank/esxid/firstboot.log"
	if len(got.Host.Files) != 1 || got.Host.Files[log] == "" || strings.Contains(out.String(), "ExampleTokenSecret") {
		t.Errorf("the second bank holds %v", got.Host.Files)
	}
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
