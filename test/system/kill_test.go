//go:build system

package system

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/journal"
)

// killed: the units of a build are killed and the machine is rebooted while they
// work; the build gets done all the same. A device that another program attached
// is left alone.
func killed(s server) {
	const foreign = "/var/tmp/foreign.raw"
	s.sh("truncate -s 64M " + foreign + "; printf precious | dd of=" + foreign + " conv=notrunc status=none")
	attach := "qemu-nbd --format=raw --persistent --fork --connect=/dev/nbd0 " + foreign

	at := s.now()
	id := s.drop(build70)
	s.started(at, id)
	s.freeze(id)
	at = s.now()
	s.sh("systemctl kill --signal=KILL '" + installUnit(id) + "'")
	s.event(at, time.Minute, journal.TriedAgain, "ESXID_BUILD="+id)
	s.await("the reason", "esxid show "+id+" | grep -q SIGKILL")
	s.contains(s.sh("esxid show "+id), "next try")
	at = s.now()
	s.sh("esxid retry " + id)
	s.started(at, id)
	s.freeze(id)
	s.thaw(id)

	boot := s.sh("cat /proc/sys/kernel/random/boot_id")
	s.sh("systemctl reboot")
	if _, err := s.machine.Booted(s.Context(), boot); err != nil {
		s.Fatal(err)
	}
	s.await("the installer, after a reboot", "systemctl is-active '"+installUnit(id)+"'")
	s.freeze(id)
	s.sh("modprobe nbd; " + attach)

	// The step is killed while it has a device attached; what it started dies with
	// it, or is found by the next one.
	s.thaw(id)
	customize := customizeUnit(id)
	s.slow(installLimit, fmt.Sprintf(`until grep -qs . /sys/block/nbd[1-9]/pid && systemctl is-active --quiet '%s'; do sleep 0.02; done
		systemctl kill --signal=KILL --kill-who=main '%[1]s'`, customize))
	at = s.now()
	s.await("the end of the killed step", "! systemctl is-active '"+customize+"'")
	s.sh("esxid retry " + id)
	s.event(at, restLimit, journal.Published, "ESXID_BUILD="+id)

	if got := s.sh("cat /sys/block/nbd0/pid >/dev/null && dd if=/dev/nbd0 bs=8 count=1 status=none"); got != "precious" {
		s.Errorf("the other program's device shows %q", got)
	}
	if got := s.sh("grep -ls . /sys/block/nbd*/pid"); got != "/sys/block/nbd0/pid" {
		s.Errorf("still attached: %s", got)
	}
	s.sh("qemu-nbd --disconnect /dev/nbd0")
	if left := s.sh("find /run/esxid /run/esxid-nbd -name 'nbd*' 2>/dev/null || true"); left != "" {
		s.Errorf("left in /run: %s", left)
	}
	s.contains(s.sh("systemctl --failed"), "0 loaded units listed")
}

// idle: with nothing to do the service takes next to no memory and no time. In a
// minute the watchdog is fed once, and Go may collect its garbage, which it does every
// two minutes; a second may end in the middle of either. Time is counted in ticks of
// 10 ms, of a processor that is emulated and many times slower than a real one.
func idle(s server) {
	s.sh("sleep 5") // what the last build left is being tidied up
	text := s.slow(3*time.Minute, `pid=$(systemctl show --value -p MainPID esxid)
		switches() { cat /proc/$pid/task/*/status | awk '/^voluntary/ {n += $2} END {print n}'; }
		ticks() { awk '{print $14 + $15}' /proc/$pid/stat; }
		began=$(ticks) was=$(switches) woken=0
		for ((i = 0; i < 60; i++)); do
			sleep 1
			now=$(switches)
			((now == was)) || ((++woken))
			was=$now
		done
		echo "woken $woken"
		echo "ticks $(($(ticks) - began))"
		grep -E 'Vm|Rss' /proc/$pid/status`)
	value := func(name string) int {
		m := regexp.MustCompile(`(?m)^` + name + `:?\s+(\d+)`).FindStringSubmatch(text)
		if m == nil {
			s.Fatalf("no %s in:\n%s", name, text)
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	rss, ticks, woken := value("VmRSS"), value("ticks"), value("woken")
	s.Logf("%d KiB resident; in a minute %d ms of CPU time, and something happened in %d of the seconds", rss, 10*ticks, woken)
	if rss > 20<<10 {
		s.Errorf("%d KiB resident, want at most 20 MiB", rss)
	}
	if ticks > 10 || woken > 4 {
		s.Errorf("idle is not idle: %d ms of CPU time in a minute, and something happened in %d of the seconds", 10*ticks, woken)
	}
}

// removal: removing keeps the state, purging all but the finished images.
func removal(s server) {
	images := s.sh("cd /var/lib/esxid/images && ls")
	s.slow(3*time.Minute, "apt-get remove -y esxid")
	s.sh("! test -e /usr/bin/esxid && test -s /etc/esxid/esxid.toml && test -d /var/lib/esxid/builds/" + s.id)
	s.sh("! systemctl is-active esxid && ! pgrep -u esxid && ! busctl status org.esxid1")
	s.slow(3*time.Minute, "apt-get purge -y esxid")
	if left := s.sh("find /etc /usr /run /lib -xdev -name '*esxid*' ! -path '/usr/lib/modules/*' ! -path '/run/log/*'"); left != "" {
		s.Errorf("after purging there still is:\n%s", left)
	}
	if now := s.sh("cd /var/lib/esxid/images && ls"); now != images || len(strings.Fields(now)) < 2 {
		s.Errorf("the images are %q, before purging %q", now, images)
	}
	if left := s.sh("ls -A /var/lib/esxid"); left != "images" {
		s.Errorf("after purging /var/lib/esxid has %q", left)
	}
	s.contains(s.sh("systemctl daemon-reload; systemctl --failed"), "0 loaded units listed")
}
