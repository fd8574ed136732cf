package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/maassim"
)

// firstBootScript does with the fewest calls what a first boot has to do.
const firstBootScript = `
set -e
esxcli network vswitch standard portgroup add -v vSwitch0 -p enp3s0
esxcli network ip interface remove -i vmk0
esxcli network ip interface add -i vmk0 -p enp3s0 -M 02:00:5e:40:00:01
esxcli network ip interface tag add -i vmk0 -t Management
esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.40.7.55 -N 255.255.0.0
esxcli network firewall set --enabled=false
cat >/tmp/report.py <<'EOF'
import json, os, time, urllib.error, urllib.request
BASE = "http://10.40.0.2:5248/MAAS/metadata/"
def call(path, data=None):
    header = 'OAuth oauth_consumer_key="ExAmPlEcOnSuMeR001", oauth_token="eXaMpLeToKeNkEy002", oauth_signature_method="PLAINTEXT", ' \
        'oauth_signature="%%26ExampleTokenSecret00000000000003", oauth_timestamp="%d", oauth_nonce="%s"' % (time.time(), os.urandom(8).hex())
    request = urllib.request.Request(BASE + path, data, {"Authorization": header, "Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=30).read().decode()
event = {"event_type": "start", "origin": "test", "name": "boot", "description": "hello from " + call("latest/meta-data/local-hostname"), "timestamp": time.time()}
call("status/x7dq3k", json.dumps(event).encode())
print(call("latest/user-data"))
EOF
/bin/python /tmp/report.py
esxcli network firewall set --enabled=true
/sbin/auto-backup.sh`

func TestFirstBoot(t *testing.T) {
	dir := t.TempDir()
	disk, hardware, metadata := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "hardware.json"), filepath.Join(dir, "metadata")
	if err := esxisim.WriteDisk(disk, esxisim.DiskOptions{
		Options: esxisim.Options{Version: "7.0.3", PayloadMiB: 1}, LayoutOptions: esxisim.LayoutOptions{MediaSize: "min"}, FirstBoot: []string{firstBootScript},
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(metadata, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		hardware: `{"name": "d", "esxi": "7.0.3", "nics": [{"mac": "02:00:5e:40:00:01"}],
			"disks": [{"linux": "sda", "bus": "sata", "model": "QEMU HARDDISK", "serial": "QM00001", "size": 34359738368}]}`,
		metadata + "/local-hostname": "esx1.lab.example", metadata + "/user-data": "#!/bin/sh\necho user data\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	maas, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: "3.6"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(maas)
	defer server.Close()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	b := firstBoot{wanted: true, hardwareFile: hardware, metadata: metadata}
	if size, err := b.load(); err != nil || size != 32<<30 {
		t.Fatalf("the boot disk has %d bytes (%v)", size, err)
	}
	var out bytes.Buffer
	if err := b.run(t.Context(), server.URL+"/MAAS", maas.AdminKey(), disk, text, &out); err != nil {
		t.Fatal(err)
	}
	var got outcome
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.MAAS.State != maassim.Deployed || len(got.MAAS.Events) != 1 || got.MAAS.Events[0].Description != "hello from esx1.lab.example" {
		t.Errorf("MAAS saw %+v\n%s", got.MAAS, got.Host.Console)
	}
	if s := got.Host.State; len(got.Host.Scripts) != 1 || got.Host.Scripts[0].Exit != 0 || !strings.Contains(got.Host.Console, "user data") ||
		s.Interface("vmk0").Portgroup != "enp3s0" || s.Unsaved {
		t.Errorf("the host is\n%s", out.Bytes())
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
