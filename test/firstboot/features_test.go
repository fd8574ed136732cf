package firstboot

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/maassim"
)

// both are an old and a new way to do things.
var both = []string{"6.7", "8.0.3"}

// vendorData is cloud-config as MAAS sends it. JSON's strings are YAML's too.
func vendorData(lines ...string) string {
	text, err := json.Marshal("#cloud-config\n" + strings.Join(lines, "\n") + "\n")
	if err != nil {
		panic(err)
	}
	return "cloud-init: " + string(text) + "\n"
}

// eachVersion runs a test with the smallest machine.
func eachVersion(t *testing.T, versions []string, test func(t *testing.T, d *deployment)) {
	t.Helper()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, start(t, "a-dhcp-single-nic", version))
		})
	}
}

// events are the descriptions of all events MAAS got, with their results.
func (d *deployment) events() string {
	var b strings.Builder
	for _, e := range d.sim.Machine(node).Events {
		b.WriteString(e.Name + " " + e.EventType + " " + e.Result + ": " + e.Description + "\n")
	}
	return b.String()
}

func TestNTP(t *testing.T) {
	t.Parallel()
	eachVersion(t, versions, func(t *testing.T, d *deployment) {
		d.maas.VendorData = vendorData("ntp:", "  pools: [ntp.example]", "  servers: [10.40.0.2, 10.40.0.3]")
		d.run()
		d.deployed()
		s := d.state()
		if n := s.NTP; !n.Enabled || !slices.Equal(n.Servers, []string{"10.40.0.2", "10.40.0.3", "ntp.example"}) {
			t.Errorf("NTP is %+v", n)
		}
		if n := s.Service("ntpd"); !n.Running || !n.OnBoot || !s.Firewall.Changed["ntpClient"] {
			t.Errorf("the service is %+v, the firewall %+v", n, s.Firewall)
		}
		text, err := os.ReadFile(d.host.Path("/etc/ntp.conf"))
		if strings.HasPrefix(s.Version, "6.") && (err != nil || !strings.HasPrefix(string(text), "restrict ")) {
			t.Errorf("ntp.conf has lost its beginning: %q %v", text, err)
		}
		if !strings.Contains(d.events(), "SSH keys, NTP\n") {
			t.Errorf("the events do not mention it: %s", d.events())
		}
	})
}

// TestVendorDataOfLinuxIsLeftOut: MAAS sends what its other systems need too.
func TestVendorDataOfLinuxIsLeftOut(t *testing.T) {
	t.Parallel()
	eachVersion(t, both, func(t *testing.T, d *deployment) {
		d.maas.VendorData = vendorData("snap: {commands: [snap set system x=y]}", "runcmd: [[systemctl, start, x]]", "write_files:",
			"- {path: /lib/systemd/system/maas_hardware_sync.timer, content: x}")
		d.run()
		d.deployed()
		if want := "left out, because it is not for ESXi: runcmd, snap, '/lib/systemd/system/maas_hardware_sync.timer' of write_files"; !strings.Contains(d.events(), want) {
			t.Errorf("want %q in the events\n%s", want, d.events())
		}
	})
}

func TestBrokenYAMLInVendorData(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, reason string }{
		"outside": {"cloud-init: \"#cloud-config\\n", "cannot read vendor-data from MAAS: line 1: a quotation mark that is never closed"},
		"inside":  {vendorData("ntp:", "  servers:", "  - a", " - b"), "the cloud-config in vendor-data from MAAS: line 5: "},
		"HTML":    {"<html><body>502 Bad Gateway</body></html>", "cannot read vendor-data from MAAS: it is no map"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVersion(t, both, func(t *testing.T, d *deployment) {
				d.maas.VendorData = c.text
				d.run()
				d.failed(c.reason)
				d.oldNetwork()
				if s := d.state(); s.Volume("datastore1") != nil {
					t.Error("a disk was changed before vendor-data was read")
				}
			})
		})
	}
}

func TestWriteFiles(t *testing.T) {
	t.Parallel()
	eachVersion(t, both, func(t *testing.T, d *deployment) {
		d.maas.VendorData = vendorData("write_files:", "- path: /altbootbank/maas/site/rack", "  content: 'r1'", "  permissions: '0600'",
			"- path: /altbootbank/maas/key", "  encoding: b64", "  content: AP8=")
		d.run()
		d.deployed()
		for path, want := range map[string]string{"/altbootbank/maas/site/rack": "r1", "/altbootbank/maas/key": "\x00\xff"} {
			if text, err := os.ReadFile(d.host.Path(path)); err != nil || string(text) != want {
				t.Errorf("%s: %q, %v", path, text, err)
			}
		}
	})
}

func TestWriteFilesOutsideThePrefix(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/etc/rc.local.d/local.sh", "/altbootbank/maas/../boot.cfg"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			eachVersion(t, both, func(t *testing.T, d *deployment) {
				d.maas.VendorData = vendorData("write_files:", "- {path: /altbootbank/maas/good, content: x}", "- {path: "+path+", content: x}")
				d.run()
				d.failed("write_files: '" + path + "' is no")
				d.oldNetwork()
				if _, err := os.Stat(d.host.Path("/altbootbank/maas")); !os.IsNotExist(err) {
					t.Errorf("the other file was written: %v", err)
				}
			})
		})
	}
}

func TestUserData(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"sh":     "#!/bin/sh -e\n[ \"$(ls /altbootbank/esxid)\" = firstboot.log ]\nesxcli system settings advanced set -o /UserVars/SuppressShellWarning -i 1\necho done\n",
		"python": "#!/usr/bin/env python3\nimport os, subprocess\nassert os.listdir('/altbootbank/esxid') == ['firstboot.log']\nsubprocess.check_call('esxcli system settings advanced set -o /UserVars/SuppressShellWarning -i 1'.split())\nprint('done')\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVersion(t, both, func(t *testing.T, d *deployment) {
				d.maas.UserData = []byte(script)
				d.run()
				d.deployed()
				if !strings.Contains(d.events(), "esxid-firstboot/user-data finish SUCCESS: user-data was run\n") || !strings.Contains(d.log(), "user-data: done\n") {
					t.Errorf("%s\n%s", d.events(), d.log())
				}
				if s := d.state(); s.Settings["/UserVars/SuppressShellWarning"] != "1" {
					t.Errorf("the settings are %v", s.Settings)
				}
			})
		})
	}
}

// notRun checks that the host is deployed, and that MAAS was told why user-data
// did not do its work: the request for it has made the machine Deployed.
func (d *deployment) notRun(reason string) {
	d.t.Helper()
	d.deployed()
	if want := "esxid-firstboot/user-data finish FAIL: user-data " + reason; !strings.Contains(d.events(), want) {
		d.t.Errorf("want %q in the events\n%s", want, d.events())
	}
	if strings.Contains(d.log(), "user-data: touched") {
		d.t.Error("it was run")
	}
}

func TestUserDataWithUnknownInterpreter(t *testing.T) {
	t.Parallel()
	for script, reason := range map[string]string{
		"#!/bin/bash\necho touched\n":                  "was not run: its first line is '#!/bin/bash'; ESXi has /bin/sh and /bin/python",
		"#!/bin/sh\r\necho touched\n":                  "was not run: its first line is '#!/bin/sh\\r'",
		"#cloud-config\nruncmd: [echo, touched]\n":     "was not run: it is cloud-config, for which ESXi has no cloud-init",
		"#!/bin/sh\n" + strings.Repeat("#\n", 256<<10): "was not run: it has more than 262144 bytes",
	} {
		t.Run(script[:min(len(script), 20)], func(t *testing.T) {
			t.Parallel()
			eachVersion(t, both[1:], func(t *testing.T, d *deployment) {
				d.maas.UserData = []byte(script)
				d.run()
				d.notRun(reason)
			})
		})
	}
	eachVersion(t, both[:1], func(t *testing.T, d *deployment) {
		d.maas.UserData = []byte("#!/bin/bash\necho touched\n")
		d.run()
		d.notRun("was not run: its first line is '#!/bin/bash'")
	})
}

func TestUserDataFails(t *testing.T) {
	t.Parallel()
	eachVersion(t, both, func(t *testing.T, d *deployment) {
		d.maas.UserData = []byte("#!/bin/sh\necho no such thing\nexit 3\n")
		d.run()
		d.notRun("failed with status 3: its output is in the host's firstboot.log")
		if !strings.Contains(d.log(), "user-data: no such thing\n") {
			t.Errorf("its output is not in the log\n%s", d.log())
		}
	})
}

// TestUserDataThatRestartsTheHost: nothing is left to do then.
func TestUserDataThatRestartsTheHost(t *testing.T) {
	t.Parallel()
	eachVersion(t, both, func(t *testing.T, d *deployment) {
		d.maas.UserData = []byte("#!/bin/sh\nkill -9 $PPID\n")
		d.run()
		d.deployed()
		if m := d.sim.Machine(node); m.State != maassim.Deployed || strings.Contains(d.events(), "user-data") {
			t.Errorf("%s\n%s", d.events(), d.log())
		}
	})
}
