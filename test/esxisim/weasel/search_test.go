package weasel

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadExact(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "DIR"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"KS.CFG;1", "DIR/lower.cfg"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, found := range map[string]bool{
		"/KS.CFG": true, "KS.CFG": true, "/DIR/lower.cfg": true, "/ks.cfg": false, "/dir/lower.cfg": false, "/DIR/LOWER.CFG": false, "/KS.CFG/x": false,
	} {
		if data, err := ReadExact(root, path); (err == nil) != found {
			t.Errorf("%s: %q, %v; want found = %v", path, data, err, found)
		}
	}
}

func TestSearchThatCannotSucceed(t *testing.T) {
	for options, want := range map[string]string{
		"runweasel cdromBoot ks=cdrom:/KS.CFG": "cannot find kickstart file on cd-rom",
		"runweasel cdromBoot ks=usb":           "cannot find kickstart file",
		"runweasel ks=http://10.0.0.1/ks.cfg":  "the network is not up",
		"runweasel ks=file:///no/such/KS.CFG":  "cannot find kickstart file",
		"runweasel ks=cdrom:/KS.CFG":           "cannot find kickstart file on cd-rom", // a machine without units
	} {
		in := Installer{Options: ParseBootOptions(options), Log: &Log{}, Screen: io.Discard, Sys: t.TempDir()}
		if _, err := in.findKickstart(in.Options["ks"]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", options, err, want)
		}
	}
}

func TestInstallerWithoutNIC(t *testing.T) {
	in := Installer{Options: ParseBootOptions("runweasel"), Log: &Log{}, Screen: io.Discard, Sys: t.TempDir()}
	if _, err := in.Run(); err == nil || err.Error() != "No network adapters were detected" {
		t.Errorf("err = %v", err)
	}
}

func TestInstallerWithoutKickstartWaits(t *testing.T) {
	var screen bytes.Buffer
	in := Installer{Options: ParseBootOptions("runweasel logPort=com1"), Log: &Log{}, Screen: &screen, Sys: fakeSys(t)}
	if reboot, err := in.Run(); reboot || err != nil || !strings.Contains(screen.String(), "Welcome to the installation") {
		t.Errorf("%v, %v, %q", reboot, err, screen.String())
	}
}

// Bodies are logged before anything runs, so a marker that stands in a body
// literally is seen too early.
func TestBodiesAreLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "port")
	port, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	in := Installer{Log: &Log{port}, Screen: io.Discard}
	if _, _, err := in.plan(good + "%post --interpreter=busybox\nvsish -e set /system/log MARKER\n"); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(log), "cpu0:65536)vsish -e set /system/log MARKER\n") {
		t.Errorf("log: %v\n%s", err, log)
	}
	if _, _, err := in.plan("install\n"); err == nil || !strings.Contains(err.Error(), "error:line 1: install needs") || !strings.Contains(err.Error(), "vmaccepteula is missing") {
		t.Errorf("err = %v, want every error of the kickstart", err)
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	more := filepath.Join(dir, "more.cfg")
	if err := os.WriteFile(more, []byte("network --bootproto=dhcp\n%firstboot --interpreter=busybox\ntrue\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in := Installer{Log: &Log{}, Screen: io.Discard}
	k, err := in.load("vmaccepteula\n%include "+more+"\n", 0)
	if err != nil || k.Fatal() || len(k.Commands) != 3 || len(k.Scripts) != 1 {
		t.Errorf("%v, %+v", err, k)
	}
	for _, bad := range []string{"%include " + dir + "/none\n", "include http://10.0.0.1/x\n", "%include\n"} {
		if k, err := in.load(bad, 0); err != nil || !k.Fatal() {
			t.Errorf("%q: %v, %q", bad, err, k.Problems)
		}
	}
	if err := os.WriteFile(more, []byte("%include "+more+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := in.load("%include "+more+"\n", 0); err == nil {
		t.Error("a file that includes itself was read to its end")
	}
}

func TestBootOptions(t *testing.T) {
	o := ParseBootOptions(" runweasel  ks=usb:/a ks=cdrom:/KS.CFG\tlogPort=com1")
	if !o.Has("runweasel") || o.Has("cdromBoot") || o["ks"] != "cdrom:/KS.CFG" || o["logPort"] != "com1" {
		t.Errorf("%q", o)
	}
}
