package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/esxid/esxid/internal/bus/client"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/test/privatebus"
)

// busKey is where a script keeps its system bus.
type busKey struct{}

type busState struct {
	dir  string
	stop func()
}

// systemBus starts a system bus for the script, with our policy; the second time it
// restarts it.
func systemBus(ts *testscript.TestScript, _ bool, _ []string) {
	state, ok := ts.Value(busKey{}).(*busState)
	if !ok {
		ts.Fatalf("there is no place for a bus")
	}
	if state.stop != nil {
		state.stop()
	} else {
		dir, err := os.MkdirTemp("", "esxid-bus-") // a socket's path must be short
		ts.Check(err)
		ts.Defer(func() { _ = os.RemoveAll(dir) })
		policy := filepath.Join(sourceDir, "../../systemd/org.esxid1.conf")
		ts.Check(errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "conf"), privatebus.SystemConfiguration(dir, policy), 0o644)))
		state.dir = dir
	}
	dir := state.dir
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--print-address", "--config-file="+dir+"/conf")
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	state.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(filepath.Join(dir, "bus"))
	})
	ts.Defer(state.stop)
	_, err = out.Read(make([]byte, 1)) // it prints when it listens
	ts.Check(err)
	ts.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/bus")
}

// sourceDir is this package's directory: scripts run elsewhere.
var sourceDir = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

// awaitBuild waits until a build is in a state, with an error that has a text in it if one is asked for.
func awaitBuild(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 && len(args) != 3 {
		ts.Fatalf("usage: await-build NAME STATE [ERROR]")
	}
	fits := func(b client.Build) bool {
		return b.Name == args[0] && b.State == args[1] && (len(args) == 2 || b.Error != nil && strings.Contains(b.Error.Message, args[2]))
	}
	last := "the service is not there"
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		cmd := exec.Command("esxid", "status", "--watch", "--json")
		cmd.Path = filepath.Join(ts.Getenv("BIN"), "esxid")
		cmd.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + ts.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "GORACE=atexit_sleep_ms=0"}
		cmd.Err = nil // it was looked for in the wrong PATH
		out, err := cmd.StdoutPipe()
		ts.Check(err)
		ts.Check(cmd.Start())
		timer := time.AfterFunc(time.Until(deadline), func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var s client.State
			ts.Check(json.Unmarshal(lines.Bytes(), &s))
			for _, b := range s.Builds {
				if b.Name == args[0] {
					last = b.State
				}
				if fits(b) {
					timer.Stop()
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
					return
				}
			}
		}
		timer.Stop()
		// It ends when there is no service yet: for that there is no event here.
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != int(fault.Unavailable) && exit.ExitCode() >= 0) {
			ts.Fatalf("esxid status --watch: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("%s is %s, not %s", args[0], last, args[1])
}
