package host

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var toolsDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hosttools-*")
	if err == nil {
		toolsDir, err = BuildTools(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func newHost(t *testing.T, version string) *Host {
	t.Helper()
	h, err := New(Options{Dir: filepath.Join(t.TempDir(), "host"), Tools: toolsDir, Hardware: Hardware{
		Name: "test", ESXi: version, NICs: []NIC{{MAC: "a4:bf:01:4e:37:14"}},
		Disks: []Disk{{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00001", Size: 64 << 30}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// good are the calls that make a host as Check wants it.
const good = `
set -e
esxcli network ip interface remove -i vmk0
esxcli network ip interface add -i vmk0 -p "Management Network" -M a4:bf:01:4e:37:14
esxcli network ip interface tag add -i vmk0 -t Management
esxcli network ip interface ipv4 set -i vmk0 -t dhcp -P true
esxcli system hostname set --fqdn=esx1.lab.example
/sbin/generate-certificates
/sbin/auto-backup.sh
`

// TestFirstBoot: a script finds the host's files and programs where ESXi has
// them, and no others.
func TestFirstBoot(t *testing.T) {
	h := newHost(t, "8.0.3")
	if err := os.WriteFile(h.Path("/altbootbank/agent.py"), []byte(`
import json, subprocess, urllib.request
print(subprocess.check_output(["esxcli", "network", "nic", "list"]).decode().split()[-1])
open("/etc/made", "w").write("a sec" + "ret")
`), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := h.FirstBoot(t.Context(), []byte(good+`
/bin/python -B /altbootbank/agent.py
/etc/init.d/SSH start
echo "on the console" >/dev/console
ls /vmfs/devices/disks | grep -c ':7$'
sgdisk --version || echo "no sgdisk"
`))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"X540-AT2\n", "SSH started", "\n2\n", "no sgdisk"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for name, want := range map[string]string{"/etc/made": "a secret", "/dev/console": "on the console\n"} {
		if text, err := os.ReadFile(h.Path(name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if err := h.Check(); err != nil && !strings.HasPrefix(err.Error(), "there are changes") { // SSH was started after the backup
		t.Error(err)
	}
	if found, err := h.Secrets("a secret"); err != nil || !slices.Equal(found, []string{"/etc/made"}) {
		t.Errorf("found %v (%v)", found, err)
	}
	calls, err := h.Calls()
	if err != nil || len(calls) != 9 || calls[1].String() != "esxcli network ip interface add -i vmk0 -p Management Network -M a4:bf:01:4e:37:14" {
		t.Errorf("%d calls, the second is %s (%v)", len(calls), calls[1], err)
	}
}

// TestToolsFromOutside: the same tools, called without entering the host.
func TestToolsFromOutside(t *testing.T) {
	h := newHost(t, "7.0.3")
	if _, err := h.Esxcli(t.Context(), "network", "ip", "dns", "search", "add", "--domain=example"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Esxcli(t.Context(), "network", "ip", "dns", "search", "add", "--domain=example"); err == nil {
		t.Error("a domain can be added twice")
	}
	out, err := h.Command(t.Context(), "sh", "-c", "esxcli network ip dns search list; command -v apt-get").CombinedOutput()
	if err == nil || string(out) != "   DNSSearch Domains: example\n" {
		t.Errorf("printed %q (%v)", out, err)
	}
	if commands, err := h.Commands(); err != nil || !slices.Equal(commands, []string{"esxcli network ip dns search add --domain=example"}) {
		t.Errorf("commands: %q (%v)", commands, err)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ lines, why string }{
		{"", ""},
		{"esxcli network ip interface tag remove -i vmk0 -t Management", "no interface is tagged"},
		{"esxcli network vswitch standard uplink remove -v vSwitch0 -u vmnic0", "no uplink with a link"},
		{"esxcli network ip interface ipv4 set -i vmk0 -t none", "vmk0 has no address"},
		{"esxcli network ip interface set -i vmk0 -m 9000", "vSwitch one of 1500"},
		{"esxcli network firewall set -e false", "the firewall is off"},
		{"esxcli system hostname set -H other", "the certificate is for"},
		{"esxcli system account add -i tmp -p VMware1!x -c VMware1!x", "account tmp is still there"},
		{`d=/vmfs/devices/disks/t10*_; partedUtil add $d gpt "8 67110912 134217694 AA31E02A400F11DB9590000C2911D1B8 0"`, "has no volume"},
		{"esxcli network ip dns search add -d example", "auto-backup.sh was not run"},
	} {
		h := newHost(t, "8.0.3")
		backup := "\nauto-backup.sh"
		if strings.HasPrefix(c.why, "auto-backup") {
			backup = ""
		}
		if out, err := h.FirstBoot(t.Context(), []byte(good+c.lines+backup)); err != nil {
			t.Fatalf("%s: %v\n%s", c.lines, err, out)
		}
		if err := h.Check(); (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", c.lines, err, c.why)
		}
	}
	fresh := newHost(t, "8.0.3")
	if err := fresh.Check(); err == nil || !strings.Contains(err.Error(), "of the machine the image was made on") {
		t.Errorf("a fresh host: %v", err)
	}
}

// TestForward: a server is as hard to reach as the host's network makes it, and
// no other can be reached at all.
func TestForward(t *testing.T) {
	h := newHost(t, "8.0.3")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host) // the test reads it or fails
	}))
	defer server.Close()
	to := server.Listener.Addr().String()
	out, err := h.FirstBoot(t.Context(), []byte(`
fetch() { python -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())' $1 2>/dev/null || echo "not $1"; }
fetch http://10.0.0.5:443/
esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.21 -N 255.255.255.0
fetch http://10.0.0.5:443/
esxcli network firewall ruleset set -r httpClient -e true
for i in 1 2 3; do fetch http://10.0.0.5:443/; done
fetch http://maas.example:443/
fetch http://`+to+`/
esxcli network ip interface ipv6 address add -i vmk0 -I 2001:db8::21/64
fetch http://[2001:db8::5]:443/
`), Forward{Address: "10.0.0.5:443", Name: "maas.example", To: to}, Forward{Address: "[2001:db8::5]:443", To: to})
	want := "not http://10.0.0.5:443/\nnot http://10.0.0.5:443/\n" + strings.Repeat("10.0.0.5:443\n", 3) + "maas.example:443\nnot http://" + to + "/\n[2001:db8::5]:443\n"
	if err != nil || out != want {
		t.Errorf("%v, printed\n%s\nwant\n%s", err, out, want)
	}
}

// TestReproducible: the same calls on the same hardware make the same state.
func TestReproducible(t *testing.T) {
	var texts []string
	for range 2 {
		h := newHost(t, "6.7")
		if out, err := h.FirstBoot(t.Context(), []byte(good+`
d=$(ls /vmfs/devices/disks/t10*_)
partedUtil add $d gpt "3 15472640 134217694 AA31E02A400F11DB9590000C2911D1B8 0"
vmkfstools -C vmfs6 -S datastore1 $d:3`)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(filepath.Join(h.Dir, "state.json"))
		if err != nil {
			t.Fatal(err)
		}
		state, _, _ := strings.Cut(string(text), `"runtime"`)
		texts = append(texts, state)
	}
	if texts[0] != texts[1] {
		t.Errorf("one is\n%s\nthe other\n%s", texts[0], texts[1])
	}
}
