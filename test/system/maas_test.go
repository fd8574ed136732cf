//go:build system

package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/journal"
)

// maasPort is where the MAAS stand-in listens in the machine, on all addresses.
const maasPort = 5240

const maasUnit = `[Service]
ExecStart=/payload/rig maas --listen 0.0.0.0:5240 --generation 3.6 --dir /srv/maas
[Install]
WantedBy=multi-user.target
`

// configuration is what the administrator writes. The virtual machines of the
// installations have as little memory as esxid allows, because the machine they
// run in is itself a virtual one. KVM is there in it, but emulated, and now and
// then resets its guest.
const configuration = `[vm]
accel = "tcg"
[vm.profile."6"]
memory_mib = 4096
[vm.profile."7"]
memory_mib = 4096
[vm.profile."8"]
memory_mib = 4096

[[target]]
type = "maas"
name = "lab"
url = "http://127.0.0.1:5240/MAAS"
`

// configure: first with mistakes, which the running service refuses by name and
// line, then a target, with a key only root can read.
func configure(s server) {
	s.write("/etc/systemd/system/maas.service", maasUnit)
	s.sh("install -d -m 0700 /srv/maas; systemctl enable --quiet --now maas")
	s.await("the stand-in for MAAS", "test -s /srv/maas/key")
	s.token = s.sh("cat /srv/maas/key")

	pid := s.property("esxid", "MainPID")
	for _, bad := range []struct{ text, want string }{
		{configuration + "colour = \"blue\"\n", "colour"},
		{"state_dir = 17\n" + configuration, "state_dir"},
		{"kickstart_dir = \"here/or/there\"\n" + configuration, "kickstart_dir"},
		{"[[target\n" + configuration, "esxid.toml:2"},
	} {
		s.write("/etc/esxid/esxid.toml", bad.text)
		at := s.now()
		s.sh("systemctl reload esxid")
		e := s.event(at, time.Minute, journal.ConfigRefused)
		s.contains(fmt.Sprint(e["MESSAGE"]), bad.want, "esxid.toml")
	}
	s.contains(s.sh("journalctl -x -u esxid MESSAGE_ID="+string(journal.ConfigRefused)), "Subject: ")
	s.contains(s.property("esxid", "StatusText"), "esxid.toml")

	s.write("/etc/esxid/esxid.toml", configuration)
	s.sh("stat -c '%U:%G %a' /etc/esxid/esxid.toml | grep -qx 'root:esxid 640'")
	s.sh("systemctl reload esxid")
	if now := s.property("esxid", "MainPID"); now != pid {
		s.Errorf("a reload started the service anew: %s, %s", pid, now)
	}
	s.sh("install -m 0600 -o root -g root /srv/maas/key /etc/esxid/maas.key")
	s.sh("systemctl restart esxid")
	if status := s.property("esxid", "StatusText"); strings.Contains(status, "no target") || strings.Contains(status, "toml") {
		s.Errorf("the status of a configured service is %q", status)
	}
	// A path that leads nowhere is the target's trouble, not the service's.
	s.write("/etc/esxid/esxid.toml", configuration+"ca_file = \"/nowhere/ca.pem\"\n")
	at := s.now()
	s.sh("systemctl reload esxid")
	s.contains(fmt.Sprint(s.event(at, time.Minute, journal.TargetUnreachable)["MESSAGE"]), "lab", "/nowhere/ca.pem")
	s.write("/etc/esxid/esxid.toml", configuration)
	s.sh("systemctl reload esxid")
	s.keep("esxid-doctor.txt", "esxid doctor")
}

// published: what the first build left, on the machine and in MAAS.
func published(s server) {
	s.keep("systemctl-status-after.txt", "systemctl status esxid")
	s.keep("journalctl-unit.txt", "journalctl --no-hostname -u esxid")
	s.keep("journalctl-build.txt", "journalctl --no-hostname ESXID_BUILD="+s.id)
	s.keep("busctl-tree.txt", "busctl tree org.esxid1")
	s.keep("esxid-status-after.txt", "esxid status")
	s.contains(s.keep("esxid-list.txt", "esxid list"), "esxi/8.0")
	s.keep("esxid-show.txt", "esxid show "+s.id)

	s.contains(s.property("esxid", "StatusText"), "1 published")
	// The kernel's nbd did it, through systemd, and has nothing attached any more.
	s.contains(s.sh("cat /var/lib/esxid/builds/"+s.id+"/build.json"), "nbd", "/dev/nbd")
	s.contains(s.sh("journalctl -q -o cat ESXID_BUILD="+s.id), "/dev/nbd")
	s.sh("test -d /sys/module/nbd && ! test -e /sys/block/nbd0/pid && ! pgrep -x qemu-nbd")
	s.contains(s.sh("systemctl --failed"), "0 loaded units listed")

	var r struct {
		Sets map[string]struct{ Complete bool }
	}
	text := s.sh("/payload/rig list --url http://127.0.0.1:5240/MAAS --key-file /srv/maas/key --name esxi/8.0")
	if err := json.Unmarshal([]byte(text), &r); err != nil || len(r.Sets) != 1 {
		s.Errorf("MAAS has %s (%v)", text, err)
	}
	s.password = s.sh("cat /var/lib/esxid/images/esxi-8.0-" + build80 + "/root-password")
	s.sh("cd /var/lib/esxid/images/esxi-8.0-" + build80 + " && sha256sum --check --quiet SHA256SUMS")
}

// deploy lets MAAS's stand-in deploy the image to a disk of this computer, as
// curtin does, and returns at once; the result is for deployed.
func (s *site) deploy(dir string) {
	s.deployment = make(chan error, 1)
	go func() {
		key := filepath.Join(dir, "maas.key")
		err := os.WriteFile(key, []byte(s.token), 0o600)
		if err == nil {
			var out []byte
			cmd := exec.Command(s.parts.rig, "deploy", "--url", "http://"+s.machine.Address+"/MAAS", "--key-file", key,
				"--name", "esxi/8.0", "--curtin", "../../internal/guest/testdata/curtin/d-flat-default.json", "-o", filepath.Join(dir, "deployed.raw"))
			out, err = cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, out)
			} else if !regexp.MustCompile(`hook found on partition \d`).Match(out) {
				err = fmt.Errorf("no hook was found:\n%s", out)
			}
		}
		s.deployment <- err
	}()
}

func startDeployment(s server) { s.deploy(s.dir) }

// deployed: the image that went through the package is one that can be deployed, and
// has no secret in it but root's hash.
func deployed(s server) {
	if err := <-s.deployment; err != nil {
		s.Fatal(err)
	}
	for what, text := range map[string]string{"the secret of MAAS's key": strings.Split(s.token, ":")[2], "root's password": s.password} {
		if found, err := fileContains(filepath.Join(s.dir, "deployed.raw"), []byte(text)); found || err != nil {
			s.Errorf("%s is in the image (%v)", what, err)
		}
	}
}

// publish is the command that brings a build's image to the targets again.
func publish(id string) string {
	return "busctl call org.esxid1 /org/esxid1 org.esxid1.Manager Publish 'sa{sv}' " + id + " 0"
}

// unreachable: MAAS is down while an image is to be published, and comes back; then
// it refuses the key, with an answer that quotes the right one.
func unreachable(s server) {
	s.sh("systemctl stop maas")
	at := s.now()
	s.sh(publish(s.id))
	s.event(at, restLimit, journal.TargetUnreachable) // the upload itself tries for a while
	s.await("the trouble in the status", "systemctl show -p StatusText esxid | grep -q lab")
	s.sh("systemctl start maas")
	s.await("the stand-in for MAAS", "/payload/rig list --url http://127.0.0.1:5240/MAAS --key-file /srv/maas/key --name esxi/8.0")
	at = s.now()
	s.sh("esxid retry " + s.id)
	s.event(at, time.Minute, journal.Published, "ESXID_BUILD="+s.id)

	part := strings.Split(s.token, ":")
	s.write("/etc/esxid/maas.key", part[0]+":"+part[1]+":wrong")
	at = s.now()
	s.sh("systemctl restart esxid")
	s.sh(publish(s.id))
	s.event(at, time.Minute, journal.TargetUnreachable)
	s.sh("install -m 0600 -o root -g root /srv/maas/key /etc/esxid/maas.key; systemctl restart esxid")
	s.await("the publication", "esxid show --json "+s.id+" | grep -q '\"done\"'")
}

func fileContains(path string, text []byte) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	// The end of each piece is searched again with the next one.
	piece := make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(piece) - len(text)) {
		n, err := f.ReadAt(piece, at)
		if bytes.Contains(piece[:n], text) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
