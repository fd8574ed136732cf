//go:build system

package system

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// installPackage: one command, and a service that runs and says what it lacks.
func installPackage(s server) {
	if out := s.sh("systemctl is-system-running --wait || systemctl --failed"); out != "running" {
		s.Errorf("the machine was not healthy before:\n%s", out)
	}
	s.sh("useradd --create-home alice; useradd --create-home bob")
	s.slow(5*time.Minute, "apt-get install -y /payload/esxid.deb")
	s.sh("adduser --quiet alice esxid")

	s.contains(s.sh("systemctl is-enabled esxid; systemctl is-active esxid"), "enabled\nactive")
	s.contains(s.keep("systemctl-status-new.txt", "systemctl status esxid"), "No target is configured")
	s.contains(s.sh("systemctl show -p StatusText esxid"), "No target is configured")

	// Owners and modes, and that nothing else came with the package.
	want := `esxid:esxid 2775 /var/lib/esxid/incoming
esxid:esxid 750 /run/esxid
esxid:esxid 750 /var/lib/esxid/builds
esxid:esxid 750 /var/lib/esxid/images
esxid:esxid 750 /var/lib/esxid/isos
esxid:esxid 750 /var/lib/esxid/rejected
root:esxid 640 /etc/esxid/esxid.toml
root:esxid 750 /etc/esxid/kickstart.d
root:root 644 /usr/share/esxid/kickstart/default.cfg`
	if got := s.sh(`cd /var/lib/esxid; LC_ALL=C stat -c '%U:%G %a %n' $PWD/{incoming,isos,rejected,builds,images} /run/esxid \
		/etc/esxid/{esxid.toml,kickstart.d} /usr/share/esxid/kickstart/default.cfg | sort`); got != want {
		s.Errorf("owners and modes are\n%s\nwant\n%s", got, want)
	}
	// The image marks what esxid needs as installed for others' sake only: what
	// apt would remove now, the package does not ask for.
	if out := s.sh("apt-get --simulate autoremove | grep ^Remv || true"); regexp.MustCompile(`Remv (qemu|mtools|polkitd|dbus|kmod)`).MatchString(out) {
		s.Errorf("the package does not depend on what it uses:\n%s", out)
	}
	s.contains(s.sh("systemctl --failed"), "0 loaded units listed")
}

// sandboxes: the scores that systemd gives them, on a scale from 0 to 10.
func sandboxes(s server) {
	s.sh("systemd-analyze verify --man=no /lib/systemd/system/esxid.service /lib/systemd/system/esxid-install@.service /lib/systemd/system/esxid-customize@.service")
	for unit, limit := range map[string]float64{"esxid.service": 1.5, "esxid-install@x.service": 2.0, "esxid-customize@x.service": 4.5} {
		out := s.keep("systemd-analyze-security-"+strings.ReplaceAll(unit, "@x", "")+".txt", "systemd-analyze security --no-pager "+unit)
		m := regexp.MustCompile(`Overall exposure level for \S+: (\d+\.\d+)`).FindStringSubmatch(out)
		if m == nil {
			s.Errorf("%s has no score:\n%s", unit, out)
			continue
		}
		score, err := strconv.ParseFloat(m[1], 64)
		if err != nil || score > limit {
			s.Errorf("%s has a score of %v, want at most %v", unit, score, limit)
		}
		s.Logf("%s: %v", unit, score)
	}
}
