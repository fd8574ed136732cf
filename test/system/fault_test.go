//go:build system

package system

import (
	"time"

	"github.com/esxid/esxid/internal/journal"
)

// diskFull: there is no room for a build; it waits, says so, and goes on when
// there is.
func diskFull(s server) {
	const filler = "/var/tmp/filler"
	s.sh(`fallocate -l $(($(df --output=avail -B1 /var/lib/esxid | tail -n 1) - 32 * 1024 * 1024)) ` + filler)
	defer s.sh("rm -f " + filler)
	at := s.now()
	s.full = s.drop(build67)
	s.event(at, time.Minute, journal.DiskLow)
	s.event(at, installLimit, journal.TriedAgain, "ESXID_BUILD="+s.full)
	s.contains(s.sh("systemctl show -p StatusText esxid"), "space")
	s.contains(s.sh("esxid status"), "space")
	s.sh("rm " + filler)
	at = s.now()
	s.sh("esxid retry " + s.full)
	s.started(at, s.full)
	s.freeze(s.full)
	s.thaw(s.full)
	s.sh("esxid cancel " + s.full)
	s.await("the end of the installation", "! systemctl is-active '"+installUnit(s.full)+"'")
	s.sh("! pgrep qemu-system")
	s.contains(s.sh("systemctl --failed"), "0 loaded units listed")
}

// polkitMissing: nobody can say who may do what. Looking goes on, changing is
// refused, and builds wait for what they may not start.
func polkitMissing(s server) {
	s.sh("systemctl mask --quiet --now polkit")
	if r := s.try("bob", "esxid status"); r.ExitCode != 0 {
		s.Errorf("bob cannot see the status: %s", r.Stderr)
	}
	if r := s.try("bob", "esxid rebuild "+s.id); r.ExitCode != 77 && r.ExitCode != 69 {
		s.Errorf("a change ends with %d, want 77 or 69: %s", r.ExitCode, r.Stderr)
	}
	at := s.now()
	s.sh("esxid retry " + s.full)
	s.event(at, 2*time.Minute, journal.TriedAgain, "ESXID_BUILD="+s.full)
	s.await("the reason in the status", "esxid status | grep -q polkit")
	s.sh("systemctl unmask --quiet polkit")
	at = s.now()
	s.sh("esxid retry " + s.full)
	s.started(at, s.full)
	s.sh("esxid cancel " + s.full)
}

// damagedRecords: one record that cannot be read costs that build and no other.
func damagedRecords(s server) {
	record := "/var/lib/esxid/builds/" + s.full + "/build.json"
	s.sh("systemctl stop esxid; cp -a " + record + " /var/tmp/build.json; truncate -s 100 " + record)
	at := s.now()
	s.sh("systemctl start esxid")
	s.event(at, time.Minute, journal.RecordDamaged)
	s.contains(s.sh("esxid list"), "esxi/8.0", "esxi/7.0")
	s.sh("systemctl stop esxid; cp -a /var/tmp/build.json " + record + "; systemctl start esxid")
	s.contains(s.sh("esxid list"), "esxi/6.7")
}

// brokenConfiguration: a service that cannot start says why, and does not try
// again and again.
func brokenConfiguration(s server) {
	for _, c := range []struct{ harm, mend, want string }{
		{"echo nonsense >>/etc/esxid/esxid.toml", "sed -i '/^nonsense$/d' /etc/esxid/esxid.toml", "/etc/esxid/esxid.toml:"},
		{"mv /etc/esxid/kickstart.d /etc/esxid/k; touch /etc/esxid/kickstart.d", "rm /etc/esxid/kickstart.d; mv /etc/esxid/k /etc/esxid/kickstart.d", "kickstart.d"},
	} {
		at := s.now()
		s.sh("systemctl stop esxid; " + c.harm)
		if r := s.try("root", "systemctl start esxid"); r.ExitCode == 0 {
			s.Errorf("the service starts after: %s", c.harm)
		} else {
			s.contains(s.sh("journalctl -q -o cat -u esxid --cursor='"+string(at)+"'"), c.want)
		}
		s.sh("sleep 7") // longer than RestartSec
		if n := s.property("esxid", "NRestarts"); n != "0" {
			s.Errorf("after %q the service was started %s times again", c.harm, n)
		}
		s.sh(c.mend + "; systemctl reset-failed esxid; systemctl start esxid")
	}
	s.contains(s.sh("esxid list"), "esxi/8.0", "esxi/7.0")
}
