package main

import (
	"path/filepath"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

// service is a script in /etc/init.d.
func service(t *task) int {
	name := filepath.Base(t.args[0])
	s := t.State.Service(name)
	if s == nil || len(t.args) < 2 {
		return t.fail("Usage: %s {start|stop|restart|status}", name)
	}
	switch t.args[1] {
	case "start", "restart":
		if name == "ntpd" && !t.AtLeast(7) && len(t.NTPServers()) == 0 {
			return t.fail("ntpd: no servers in /etc/ntp.conf")
		}
		s.Running = true
		if name == "ntpd" && !t.AtLeast(7) {
			t.State.NTP.Servers = t.NTPServers() // it reads the file only now
		}
		if name == "hostd" {
			t.Runtime.HostdMS = t.Now.UnixMilli()
		}
		t.printf("%s started\n", name)
	case "stop":
		s.Running = false
		t.printf("%s stopped\n", name)
	case "status":
		if !s.Running {
			t.printf("%s is not running\n", name)
			return 3
		}
		t.printf("%s is running\n", name)
	default:
		return t.fail("Usage: %s {start|stop|restart|status}", name)
	}
	return 0
}

// restartServices is services.sh.
func restartServices(t *task) int {
	if len(t.args) != 2 || t.args[1] != "restart" {
		return t.fail("Usage: services.sh restart")
	}
	for i := range t.State.Services {
		if s := &t.State.Services[i]; s.OnBoot {
			s.Running = true
		}
	}
	t.Runtime.HostdMS = t.Now.UnixMilli()
	return 0
}

// chkconfig shows and changes which services start at boot.
func chkconfig(t *task) int {
	args := t.args[1:]
	if len(args) > 0 && (args[0] == "-l" || args[0] == "--list") {
		for _, s := range t.State.Services {
			t.printf("%-24s%s\n", s.Name, onOff(s))
		}
		return 0
	}
	if len(args) == 0 || t.State.Service(args[0]) == nil {
		return t.fail("chkconfig: unknown service %s", strings.Join(args, " "))
	}
	s := t.State.Service(args[0])
	switch {
	case len(args) == 1:
		t.printf("%-24s%s\n", s.Name, onOff(*s))
	case args[1] == "on" || args[1] == "off":
		s.OnBoot = args[1] == "on"
	default:
		return t.fail("chkconfig: wrong use: SERVICE on|off")
	}
	return 0
}

func onOff(s host.Service) string {
	if s.OnBoot {
		return "on"
	}
	return "off"
}
