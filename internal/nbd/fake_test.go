package nbd

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests' machine is a directory with /dev and /sys; its qemu-nbd is this
// test program under that name, which plays kernel as well.

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "qemu-nbd" {
		if err := fakeQemuNBD(os.Args[1:], os.Getenv("FAKE_QEMU_NBD")); err != nil {
			fmt.Fprintln(os.Stderr, "qemu-nbd:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fakeQemuNBD serves the device named by --connect until it gets SIGTERM, which
// is what --disconnect sends. behaviour is what goes wrong.
func fakeQemuNBD(args []string, behaviour string) error {
	if args[0] == "--disconnect" {
		if behaviour == "no disconnect" {
			return fmt.Errorf("Cannot open %s: Permission denied", args[1])
		}
		server := host{root: rootOf(args[1])}.server(filepath.Base(args[1]))
		if server == 0 {
			return nil
		}
		return syscall.Kill(server, syscall.SIGTERM)
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	device, _ := strings.CutPrefix(args[0], "--connect=")
	sys := filepath.Join(rootOf(device), "sys/block", filepath.Base(device))
	image, err := os.Stat(args[len(args)-1])
	if err != nil {
		return err
	}
	switch {
	case behaviour == "no socket":
		return fmt.Errorf("Failed to set NBD socket")
	case behaviour == "mute":
		<-terminated
		return nil
	case behaviour == "taken "+filepath.Base(device):
		if err := connect(sys, 1, 7); err != nil {
			return err
		}
		return fmt.Errorf("Failed to set NBD socket")
	}
	if err := connect(sys, os.Getpid(), image.Size()/sectorSize); err != nil {
		return err
	}
	<-terminated
	if behaviour == "kernel holds on" {
		return nil
	}
	return free(sys)
}

func rootOf(node string) string { return filepath.Dir(filepath.Dir(node)) }

// connect makes a device look attached.
func connect(sys string, pid int, sectors int64) error {
	if err := os.WriteFile(sys+"/pid", []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(sys+"/size", []byte(strconv.FormatInt(sectors, 10)+"\n"), 0o644)
}

// free makes a device look unused.
func free(sys string) error {
	if err := os.WriteFile(sys+"/size", []byte("0\n"), 0o644); err != nil {
		return err
	}
	return os.Remove(sys + "/pid")
}

// machine is a host with free devices, qemu-nbd, and a disk image.
type machine struct {
	host
	lockDir, disk string
}

func newMachine(t *testing.T, devices ...string) machine {
	t.Helper()
	dir := t.TempDir()
	m := machine{host: thisHost(), lockDir: filepath.Join(dir, "run", "esxid"), disk: filepath.Join(dir, "disk.raw")}
	m.root = filepath.Join(dir, "root")
	m.limits.node = 50 * time.Millisecond
	for _, name := range devices {
		writeFile(t, m.path("sys/block", name, "size"), "0\n")
		writeFile(t, m.node(name), "")
	}
	writeFile(t, m.disk, strings.Repeat("\x00", 4*sectorSize))
	if err := os.Symlink("/proc", m.path("proc")); err != nil && len(devices) > 0 {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "qemu-nbd")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector makes programs end slowly
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return m
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// serve starts a qemu-nbd of somebody else and waits until it is connected.
func (m machine) serve(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command("qemu-nbd", append(args, m.disk)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	err := poll(t.Context(), 10*time.Second, nil, func() bool { return m.sectors(name) > 0 })
	if err != nil {
		t.Fatal(err)
	}
}

// wantClean checks that nothing is attached and no record is left.
func (m machine) wantClean(t *testing.T) {
	t.Helper()
	if files, err := filepath.Glob(m.lockDir + "/*"); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	names, err := m.devices()
	if err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if !m.free(name) {
			t.Errorf("%s is in use", name)
		}
	}
}
