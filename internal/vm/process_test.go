package vm

import (
	"bufio"
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

// TestMain lets the test program play other parts: a QEMU that does what a real
// one seldom does, and an esxid that is killed.
func TestMain(m *testing.M) {
	switch os.Getenv("VM_TEST_PART") {
	case "qemu":
		playQEMU(scenes[os.Getenv("VM_TEST_SCENE")])
	case "install":
		playInstall(os.Getenv("VM_TEST_SPEC"))
	default:
		os.Exit(m.Run())
	}
}

// scene is what a played QEMU does once the guest may run, and when it is told
// to quit.
type scene struct {
	cont, quit func(event func(string), serial io.Writer)
	status     string
}

const powerOffEvent = `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}`

var scenes = map[string]scene{
	"full disk": {
		cont: func(event func(string), _ io.Writer) {
			event(`{"event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "disk", "reason": "No space left on device", "operation": "write", "action": "stop", "nospace": true}}`)
			event(`{"event": "STOP"}`)
		},
	},
	"internal error": {
		cont: func(event func(string), _ io.Writer) {
			fmt.Fprintln(os.Stderr, "KVM internal error. Suberror: 1")
			event(`{"event": "STOP"}`)
		},
		status: "internal-error",
	},
	"short stop": { // stopped and going on again before anybody could ask
		cont: func(event func(string), serial io.Writer) {
			event(`{"event": "STOP"}`)
			event(`{"event": "RESUME"}`)
			io.WriteString(serial, markerLine)
			event(powerOffEvent)
		},
		status: "running",
	},
	"late marker": { // the event overtakes the serial port
		cont: func(event func(string), _ io.Writer) { event(powerOffEvent) },
		quit: func(_ func(string), serial io.Writer) { io.WriteString(serial, markerLine) },
	},
	"fails at the end": {
		cont: func(event func(string), serial io.Writer) {
			io.WriteString(serial, markerLine)
			event(powerOffEvent)
		},
		quit: func(func(string), io.Writer) {
			fmt.Fprintln(os.Stderr, "cannot write the rest")
			os.Exit(3)
		},
	},
	"passwords": {
		cont: func(event func(string), serial io.Writer) {
			io.WriteString(serial, logPrefix+"rootpw --iscrypted $6$salt$hash\r\nrootpw Secret1\r\nerror: hash $6$salt$hash is weak")
			event(powerOffEvent)
		},
	},
}

// playQEMU speaks QMP and the serial port on the inherited sockets.
func playQEMU(s scene) {
	monitor := os.NewFile(qmpFD, "monitor")
	serial := os.NewFile(serialFD, "serial")
	event := func(message string) { io.WriteString(monitor, message+"\r\n") }
	event(greeting)
	in := json.NewDecoder(monitor)
	for {
		var c struct {
			Execute string
			ID      uint64
		}
		if err := in.Decode(&c); err != nil {
			os.Exit(1)
		}
		reply := func(result string) { event(fmt.Sprintf(`{"return": %s, "id": %d}`, result, c.ID)) }
		switch c.Execute {
		case "query-status":
			reply(fmt.Sprintf(`{"status": %q}`, s.status))
		case "query-blockstats":
			reply("[]")
		case "cont":
			reply("{}")
			s.cont(event, serial)
		case "quit":
			reply("{}")
			if s.quit != nil {
				s.quit(event, serial)
			}
			os.Exit(0)
		case "qmp_capabilities":
			reply("{}")
		default: // as if there were no screen
			event(fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "no"}, "id": %d}`, c.ID))
		}
	}
}

// played returns a program that plays a part. It is a script, as the part is
// told by the environment, which parallel tests cannot set.
func played(t *testing.T, scene string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return script(t, fmt.Sprintf("export VM_TEST_PART=qemu VM_TEST_SCENE='%s'; exec '%s'", scene, self))
}

func TestPlayedQEMU(t *testing.T) {
	t.Parallel()
	image := newGuest().hang()
	for name, tt := range map[string]struct {
		want  string // in the error; "": success
		class fault.Class
	}{
		"full disk":        {"no space is left for the virtual disk", fault.CannotWrite},
		"internal error":   {"QEMU stopped the machine (internal-error) (phase: loading): KVM internal error. Suberror: 1", fault.Failed},
		"short stop":       {"", 0},
		"late marker":      {"", 0},
		"fails at the end": {"QEMU failed at the end of the installation (phase: powering off): qemu-system-x86_64: exit status 3: cannot write the rest", fault.Failed},
		"passwords":        {`failed and powered the machine off (phase: booting); the installer said: "error: hash [removed] is weak"`, fault.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpec(t, image)
			s.QEMU = played(t, name)
			err := Install(t.Context(), s)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "":
				wantFailure(t, s, err)
				if !strings.Contains(err.Error(), tt.want) || fault.ClassOf(err) != tt.class {
					t.Errorf("err = %v (class %d)\nwant %s (class %d)", err, fault.ClassOf(err), tt.want, tt.class)
				}
			}
			console, err := os.ReadFile(s.consolePath())
			if err != nil || strings.Contains(string(console), "$6$") || strings.Contains(string(console), "Secret1") {
				t.Errorf("console.log = %q, %v", console, err)
			}
		})
	}
}

// playInstall installs what a file says and prints QEMU's process id.
func playInstall(file string) {
	var s Spec
	f, err := os.Open(file)
	if err == nil {
		err = gob.NewDecoder(f).Decode(&s)
	}
	if err == nil {
		err = install(context.Background(), s, func(p *command.Process) { fmt.Println(p.Pid()) })
	}
	fmt.Println(err)
	os.Exit(1)
}

func TestEsxidKilled(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().hang())
	file := filepath.Join(t.TempDir(), "spec")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := gob.NewEncoder(f).Encode(s); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	esxid := exec.Command(os.Args[0])
	esxid.Env = append(os.Environ(), "VM_TEST_PART=install", "VM_TEST_SPEC="+file)
	stdout, err := esxid.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := esxid.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	qemu, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := esxid.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = esxid.Wait()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		// The parent of a killed process may leave it as a zombie.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", qemu))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(qemu, syscall.SIGKILL)
			t.Fatal("QEMU survived esxid")
		}
	}
	// What was left behind does not disturb the next attempt.
	s.ISOWrites = []Write{{Offset: 0, Data: make([]byte, 512)}}
	s.QEMU = played(t, "late marker")
	if err := Install(t.Context(), s); err != nil {
		t.Error(err)
	}
	checkFiles(t, s, "console.log")
}

// TestOverlayIsReplaced: the lock that a dying QEMU still has on an overlay does
// not keep the next attempt from making its own.
func TestOverlayIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, path := filepath.Join(dir, "base"), filepath.Join(dir, "overlay.qcow2")
	for _, file := range []string{base, path} {
		if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	locked, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	if err := unix.FcntlFlock(locked.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if err := createOverlay(t.Context(), path, base, 0, nil); err != nil {
		t.Error(err)
	}
}

// TestMachinesAreApart: each machine has its own connections, and neither
// keeps the other's open.
func TestMachinesAreApart(t *testing.T) {
	t.Parallel()
	var machines [2]*machine
	for i := range machines {
		m, err := startMachine(t.Context(), t.TempDir(), played(t, "late marker"), nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		machines[i] = m
	}
	machines[0].process.Kill()
	if _, ok := <-machines[0].qmp.events; ok {
		t.Error("an event from a killed QEMU")
	}
	if status, err := machines[1].status(t.Context()); err != nil {
		t.Errorf("the other machine: %q, %v", status, err)
	}
	if err := machines[1].quit(); err != nil {
		t.Error(err)
	}
	_ = machines[0].wait(time.Second)
	machines[0].close()
}
