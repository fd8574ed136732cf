package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

// TestSystemUUID: the old way to a new one works until 7.0 Update 1.
func TestSystemUUID(t *testing.T) {
	for version, works := range map[string]bool{"6.5": true, "6.7": true, "7.0.1": true, "7.0.3": false, "8.0.3": false, "9.0": false} {
		h := newHost(t, standard(version))
		old := must(t, h, "esxcli system uuid get")
		if !strings.HasSuffix(old, "-525400e51d01\n") {
			t.Errorf("%s: the UUID is not the image's: %s", version, old)
		}
		path := h.Path("/etc/vmware/esx.conf")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "\n")
		if err := os.WriteFile(path, []byte(rest), 0o644); err != nil {
			t.Fatal(err)
		}
		now := must(t, h, "esxcli system uuid get")
		if (now != old) != works {
			t.Errorf("%s: the UUID was %s and is %s", version, old, now)
		}
		if works && !strings.HasSuffix(now, "-a4bf014e3714\n") {
			t.Errorf("%s: the new UUID is not this machine's: %s", version, now)
		}
		if again := must(t, h, "esxcli system uuid get"); again != now {
			t.Errorf("%s: the UUID changes with each call", version)
		}
	}
}

func TestNTP(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h, "esxcli system ntp set --server=10.0.0.3 --server=ntp.example --enabled=true")
	if got := must(t, h, "esxcli system ntp get"); !strings.Contains(got, "   Server: 10.0.0.3, ntp.example\n") || !strings.Contains(got, "   Enabled: true\n") {
		t.Errorf("got\n%s", got)
	}
	if got := must(t, h, "esxcli network firewall ruleset list -r ntpClient"); !strings.Contains(got, "true") {
		t.Errorf("the firewall was not opened:\n%s", got)
	}
	old := newHost(t, standard("6.7"))
	if exit, out := call(t, old, "/etc/init.d/ntpd start", ""); exit == 0 {
		t.Errorf("ntpd starts without servers: %s", out)
	}
	if err := os.WriteFile(old.Path("/etc/ntp.conf"), []byte("driftfile /etc/ntp.drift\nserver 10.0.0.3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, old, "/etc/init.d/ntpd start", "chkconfig ntpd on")
	s := state(t, old)
	if n := s.Service("ntpd"); !n.Running || !n.OnBoot || !s.NTP.Enabled || len(s.NTP.Servers) != 1 {
		t.Errorf("ntpd is %+v, servers %v", n, s.NTP.Servers)
	}
	if err := old.Check(); err == nil || !strings.Contains(err.Error(), "the firewall keeps its packets in") {
		t.Errorf("ntpd cannot reach its servers, and the check says %v", err)
	}
	if err := os.WriteFile(old.Path("/etc/ntp.conf"), []byte("server 10.0.0.4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s := state(t, old); s.NTP.Servers[0] != "10.0.0.3" {
		t.Errorf("ntpd uses %v without having been restarted", s.NTP.Servers)
	}
	must(t, old, "/etc/init.d/ntpd restart")
	if s := state(t, old); s.NTP.Servers[0] != "10.0.0.4" {
		t.Errorf("after its restart ntpd uses %v", s.NTP.Servers)
	}
}

func TestCertificate(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	name := func() string {
		text, err := os.ReadFile(h.Path("/etc/vmware/ssl/rui.crt"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c.Subject.CommonName
	}
	if got := name(); got != "localhost.localdomain" {
		t.Errorf("the installation's is for %s", got)
	}
	must(t, h, "esxcli system hostname set --fqdn=esx1.lab.example")
	if got := name(); got != "localhost.localdomain" {
		t.Errorf("it follows the name by itself, to %s", got)
	}
	must(t, h, "generate-certificates")
	if got := name(); got != "esx1.lab.example" {
		t.Errorf("it is for %s", got)
	}
	if got := must(t, h, "esxcli system hostname get"); got != "   Domain Name: lab.example\n   Fully Qualified Domain Name: esx1.lab.example\n   Host Name: esx1\n" {
		t.Errorf("got\n%s", got)
	}
}

// TestPasswordFromInput: a password has no business in an argument.
func TestPasswordFromInput(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h, "esxcli system account add --id=tmp --description=x --password --password-confirmation <<< VMware1!x|VMware1!x|",
		"esxcli system permission set -i tmp -r Admin")
	s := state(t, h)
	if role, ok := s.Authenticate("tmp", "VMware1!x"); !ok || role != "Admin" {
		t.Errorf("authenticated: %v, as %q", ok, role)
	}
	if _, ok := s.Authenticate("tmp", "VMware1!y"); ok {
		t.Error("a wrong password will do")
	}
	if got := must(t, h, "esxcli system permission list"); !strings.Contains(got, "tmp           false  Admin") {
		t.Errorf("got\n%s", got)
	}
	must(t, h, "esxcli system account remove -i tmp")
}

func TestHostdNeedsTime(t *testing.T) {
	hw := standard("7.0.3")
	hw.HostdReadyMS = 3600_000
	h := newHost(t, hw)
	if exit, _ := call(t, h, "vim-cmd hostsvc/runtimeinfo", ""); exit == 0 {
		t.Error("vim-cmd works at once")
	}
	must(t, h, "localcli system version get")
	if err := h.Change(func(m *host.Machine) { m.Runtime.HostdMS -= 3600_000 }); err != nil {
		t.Fatal(err)
	}
	must(t, h, "vim-cmd hostsvc/runtimeinfo", "vim-cmd hostsvc/enable_ssh", "vim-cmd hostsvc/start_ssh")
	if s := state(t, h).Service("SSH"); !s.Running || !s.OnBoot {
		t.Errorf("SSH is %+v", s)
	}
	must(t, h, "/etc/init.d/hostd restart")
	if exit, _ := call(t, h, "vim-cmd hostsvc/runtimeinfo", ""); exit == 0 {
		t.Error("hostd is there at once after a restart")
	}
}

func TestFaults(t *testing.T) {
	hw := standard("8.0.3")
	hw.Faults = []host.Fault{{Command: "esxcli network ip dns search add", Skip: 1, Times: 2, Text: "Sysinfo error: Busy"}}
	h := newHost(t, hw)
	var exits []int
	for _, domain := range []string{"a", "b", "c", "d"} {
		exit, _ := call(t, h, "esxcli network ip dns search add -d "+domain, "")
		exits = append(exits, exit)
	}
	if got := state(t, h).DNS.Search; exits[0] != 0 || exits[1] == 0 || exits[2] == 0 || exits[3] != 0 || len(got) != 2 {
		t.Errorf("exit statuses %v, search domains %v", exits, got)
	}
}

// A tool may fail although it has done its work, or be content with nothing.
func TestFaultyWays(t *testing.T) {
	hw := standard("8.0.3")
	hw.Faults = []host.Fault{
		{Command: "esxcli network ip dns search add", Times: -1, Text: "late", Late: true},
		{Command: "esxcli network nic list", Times: 1, Text: "?", Way: host.Nonsense},
	}
	h := newHost(t, hw)
	exit, out := call(t, h, "esxcli network ip dns search add -d a", "")
	if got := state(t, h).DNS.Search; exit != 1 || out != "late\n" || len(got) != 1 {
		t.Errorf("a late refusal: exit status %d, %q, search domains %v", exit, out, got)
	}
	for _, want := range []bool{false, true} {
		if exit, out := call(t, h, "esxcli network nic list", ""); exit != 0 || strings.Contains(out, "vmnic0") != want {
			t.Errorf("nonsense: exit status %d, %q", exit, out)
		}
	}
	hw.Faults[0].Way = "odd"
	if _, err := host.New(host.Options{Dir: t.TempDir(), Hardware: hw}); err == nil {
		t.Error("an unknown way to fail is accepted")
	}
}

func TestUnsaved(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h, "esxcli network nic list", "logger -t esxid hello")
	if state(t, h).Unsaved {
		t.Error("a question or a log line is a change to be saved")
	}
	must(t, h, "esxcli network ip dns search add -d example")
	if !state(t, h).Unsaved {
		t.Error("a change does not have to be saved")
	}
	must(t, h, "auto-backup.sh")
	if state(t, h).Unsaved {
		t.Error("auto-backup.sh does not save")
	}
	if log := state(t, h).Log; len(log) != 1 || log[0] != "esxid: hello" {
		t.Errorf("the log is %q", log)
	}
}

func TestVmwareNames(t *testing.T) {
	for version, want := range map[string]string{
		"6.5": "VMware ESXi 6.5.0 Update 2", "6.7": "VMware ESXi 6.7.0 GA", "7.0": "VMware ESXi 7.0 GA", "7.0.3": "VMware ESXi 7.0 Update 3", "8.0": "VMware ESXi 8.0 GA",
	} {
		if got := must(t, newHost(t, standard(version)), "vmware -l"); got != want+"\n" {
			t.Errorf("%s: %s", version, got)
		}
	}
}
