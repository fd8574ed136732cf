//go:build system

package system

import (
	"fmt"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/journal"
)

// unitStarted is systemd's own message about a unit that has started (sd-messages.h).
const unitStarted = "39f53479d3a045ac8e11786248231fbf"

// How long an installation may take, and the rest of a build: many times what they
// take when the computer has nothing else to do.
const (
	installLimit = 12 * time.Minute
	restLimit    = 4 * time.Minute
)

// await polls, for what tells nobody that it has happened.
func (s server) await(what, script string) {
	s.Helper()
	r := s.do(commandWithin(restLimit+time.Minute, fmt.Sprintf("until { %s; } >/dev/null 2>&1; do ((SECONDS < %.0f)) || exit 1; sleep 0.2; done", script, restLimit.Seconds())))
	if r.ExitCode != 0 {
		s.Fatalf("no sign of %s: %s", what, script)
	}
}

// drop puts an ISO into incoming, as a member of the group does, and returns the id
// of its build.
func (s server) drop(number string) string {
	s.Helper()
	at := s.now()
	r := s.try("alice", fmt.Sprintf("cp /payload/%s.iso /var/lib/esxid/incoming/VMware-VMvisor-Installer-%[1]s.x86_64.iso", number))
	if r.ExitCode != 0 {
		s.Fatalf("alice cannot drop an ISO: %s", r.Stderr)
	}
	s.event(at, restLimit, journal.Accepted)
	id, _ := s.event(at, time.Minute, journal.Queued)["ESXID_BUILD"].(string)
	if !strings.Contains(id, number) {
		s.Fatalf("the ISO of build %s is queued as %q", number, id)
	}
	return id
}

func installUnit(id string) string   { return "esxid-install@" + id + ".service" }
func customizeUnit(id string) string { return "esxid-customize@" + id + ".service" }

// started waits until systemd has started the installation of a build.
func (s server) started(after cursor, id string) {
	s.Helper()
	s.record(after, restLimit, "UNIT="+installUnit(id), "MESSAGE_ID="+unitStarted)
}

// freeze waits until the virtual machine of a build runs and stops it, so that the
// installation cannot be over before what a check does meanwhile. (The QEMU that
// only proves that KVM works has no name.) It returns QEMU's process id.
func (s server) freeze(id string) string { s.Helper(); return s.freezeAt(id, "true") }

// freezeAt is freeze at the first moment at which a condition holds.
func (s server) freezeAt(id, condition string) string {
	s.Helper()
	s.slow(installLimit, fmt.Sprintf(`until %s && pkill -STOP --full '^[^ ]*qemu-system[^ ]* -name guest='; do
		systemctl is-active --quiet '%s' || { echo 'the installation has ended'; exit 1; }
		sleep 0.5
	done`, condition, installUnit(id)))
	return s.qemu(id)
}

func (s server) thaw(id string) { s.Helper(); s.sh("kill -CONT " + s.qemu(id)) }

// qemu is the process id of the virtual machine of a build.
func (s server) qemu(id string) string {
	s.Helper()
	return s.sh("pgrep qemu-system --cgroup \"$(systemctl show --value -p ControlGroup '" + installUnit(id) + "')\"")
}

// beginBuild: an ISO that is dropped gets its installer, in a unit of its own.
func beginBuild(s server) {
	if r := s.try("bob", "cp /payload/"+build80+".iso /var/lib/esxid/incoming/"); r.ExitCode == 0 {
		s.Error("someone who is not in the group can drop ISOs")
	}
	at := s.now()
	s.id = s.drop(build80)
	s.started(at, s.id)
	s.freezeAt(s.id, "test -s /var/lib/esxid/builds/"+s.id+"/.install/console.log")
	s.await("the progress", "systemctl show -p StatusText esxid | grep -q 'Building esxi/8.0 .*install'")
	s.contains(s.keep("systemctl-status.txt", "systemctl status esxid"), "Building esxi/8.0 ("+build80+"): install")
	s.keep("systemctl-status-install.txt", "systemctl status '"+installUnit(s.id)+"'")
	s.contains(s.keep("esxid-status.txt", "esxid status"), "esxi/8.0", "install")
	s.keep("busctl-tree-during.txt", "busctl tree org.esxid1")
	s.keep("busctl-introspect.txt", "busctl introspect org.esxid1 /org/esxid1")
	s.contains(s.property(installUnit(s.id), "User"), "esxid")
	s.contains(s.sh("esxid logs "+s.id), "\n")
}

// undisturbed: while an installation runs, the service around it is restarted,
// upgraded, killed, cut off from the bus and confused about the time; the
// installation is the same process all the time.
func undisturbed(s server) {
	qemu := s.qemu(s.id)
	invocation := s.property(installUnit(s.id), "InvocationID")
	// The service is the one that follows this installation.
	same := func(after string) {
		s.Helper()
		s.await("the service", "test $(systemctl is-active esxid) = active && esxid status")
		if now := s.qemu(s.id); now != qemu || s.property(installUnit(s.id), "InvocationID") != invocation {
			s.Errorf("after %s the installation is another process: %q, not %q", after, now, qemu)
		}
		s.await("the build, after "+after, "esxid show --json "+s.id+" | grep -q install && systemctl show -p StatusText esxid | grep -q 'esxi/8.0 .*install'")
	}

	s.sh("systemctl restart esxid")
	same("a restart")

	s.slow(5*time.Minute, "apt-get install -y /payload/esxid-newer.deb")
	s.contains(s.sh("dpkg-query -W esxid"), "+newer")
	same("an upgrade")

	at := s.now()
	s.sh("systemctl kill --signal=KILL --kill-who=main esxid")
	s.record(at, time.Minute, "UNIT=esxid.service", "MESSAGE_ID="+unitStarted)
	same("kill -9")

	pid := s.property("esxid", "MainPID")
	s.sh("systemctl restart dbus")
	same("a restart of D-Bus")
	if now := s.property("esxid", "MainPID"); now != pid {
		s.Errorf("a restart of D-Bus restarted the service: process %s, not %s", now, pid)
	}

	s.sh("date --set '+3 days'")
	same("a jump of the clock")
	s.sh("date --set '-3 days'")
	if now := s.property("esxid", "MainPID"); now != pid {
		s.Errorf("a jump of the clock restarted the service: process %s, not %s", now, pid)
	}

	r := s.try("root", "runuser -u esxid -- env RUNTIME_DIRECTORY=/tmp esxid run")
	if r.ExitCode != 75 {
		s.Errorf("a second daemon ends with %d, want 75: %s", r.ExitCode, r.Stderr)
	}
}

// rights: who may look, and who may change what.
func rights(s server) {
	for _, read := range []string{
		"esxid status", "esxid status --json", "esxid list", "esxid show " + s.id, "systemctl status esxid",
		"busctl get-property org.esxid1 /org/esxid1 org.esxid1.Manager Status", "busctl tree org.esxid1",
	} {
		if r := s.try("bob", read); r.ExitCode != 0 {
			s.Errorf("bob cannot %s: exit code %d: %s%s", read, r.ExitCode, r.Stdout, r.Stderr)
		}
	}
	for _, change := range []string{"cancel " + s.id, "rebuild " + s.id, "retry " + s.id} {
		if r := s.try("bob", "esxid "+change+" </dev/null"); r.ExitCode != 77 {
			s.Errorf("esxid %s of bob ends with %d, want 77: %s%s", change, r.ExitCode, r.Stdout, r.Stderr)
		}
	}
	for _, change := range []string{
		"systemctl --no-ask-password stop '" + installUnit(s.id) + "'", "systemctl --no-ask-password start 'esxid-customize@x.service'",
		"cat /var/lib/esxid/builds/*/build.json", "cat /etc/esxid/esxid.toml", "ls /var/lib/esxid/images/",
		"busctl call org.esxid1 /org/esxid1 org.esxid1.Manager Rescan 'a{sv}' 0", publish(s.id),
	} {
		if r := s.try("bob", change); r.ExitCode == 0 {
			s.Errorf("bob can: %s\n%s", change, r.Stdout)
		}
	}
	// The service's own user may start these units, and no others.
	for _, change := range []string{
		"start esxid-customize@x.timer", "stop dbus.service", "start debug-shell.service", "restart esxid.service",
		"kill '" + installUnit(s.id) + "'",
	} {
		if r := s.try("esxid", "systemctl --no-ask-password "+change); r.ExitCode == 0 {
			s.Errorf("the user esxid can: systemctl %s", change)
		}
	}
}

// finishBuild: the installation goes on, and the image is in MAAS.
func finishBuild(s server) {
	at := s.now()
	s.thaw(s.id)
	s.event(at, installLimit, journal.Published, "ESXID_BUILD="+s.id)
}
