// Package privatebus gives a test a system bus of its own, a real dbus-daemon
// that can be stopped and started again.
package privatebus

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"
)

const configuration = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

const systemConfiguration = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
  <policy user="root"><allow own="org.freedesktop.PolicyKit1"/></policy>
  <include>%s</include>
</busconfig>`

// SystemConfiguration is the configuration of a bus in dir/bus that is as strict as the
// system's, with the policy of the service in the file policy. A test may own polkit's name.
func SystemConfiguration(dir, policy string) []byte {
	return fmt.Appendf(nil, systemConfiguration, dir, policy)
}

// Bus is a running bus, which this process takes for the system's.
type Bus struct {
	t       testing.TB
	dir     string
	Process *exec.Cmd
}

// Start starts a bus that lives as long as the test. Everybody may do everything
// on it.
func Start(t testing.TB) *Bus {
	t.Helper()
	// t.TempDir can be too long for a socket.
	dir, err := os.MkdirTemp("", "bus-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &Bus{t: t, dir: dir}
	if err := os.WriteFile(b.path("conf"), fmt.Appendf(nil, configuration, b.path("socket")), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+b.path("socket"))
	t.Cleanup(b.Stop)
	b.Start()
	return b
}

func (b *Bus) path(name string) string { return filepath.Join(b.dir, name) }

// Stop kills the bus; every connection is lost.
func (b *Bus) Stop() {
	if b.Process != nil {
		_ = b.Process.Process.Kill() // it may have ended
		_ = b.Process.Wait()         // of a kill, as wanted
		b.Process = nil
	}
}

// Start starts the bus again, at the same address.
func (b *Bus) Start() {
	b.t.Helper()
	os.Remove(b.path("socket"))
	cmd := exec.Command("dbus-daemon", "--config-file="+b.path("conf"), "--nofork", "--nopidfile", "--print-address")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.Process = cmd
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil { // it listens now
		b.t.Fatalf("dbus-daemon: %v", err)
	}
}

// Connect connects to the bus for the time of the test.
func (b *Bus) Connect(options ...dbus.ConnOption) *dbus.Conn {
	b.t.Helper()
	conn, err := dbus.Connect("unix:path="+b.path("socket"), options...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}
