package vm

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

const (
	marker     = "esxid-done-6b1f0c9a"
	logPrefix  = "2026-11-22T10:00:00.123Z cpu1:2097653)"
	bootLine   = "TSC: 521832 cpu0:1)Initializing.\r\n"
	markerLine = logPrefix + marker + "\r\n"
)

// smallPC is hardware a boot sector is content with.
var smallPC = Hardware{
	Machine: "pc", NIC: "e1000", MAC: "00:50:56:00:00:01", DiskBus: "ahci", CDBus: "ide",
	KickstartMedium: "cdrom", MemoryMiB: 32, CPUs: 1, DiskSize: 64 << 20,
}

// newSpec is an installation whose installer is the boot image. Its limits are
// for guests that come to an end by themselves, on a machine that is busy.
func newSpec(t *testing.T, image []byte) Spec {
	t.Helper()
	dir := t.TempDir()
	s := Spec{
		Dir: filepath.Join(dir, "build"), Disk: filepath.Join(dir, "disk.raw"), Kickstart: filepath.Join(dir, "ks.img"),
		Hardware: smallPC, Accel: "tcg", Marker: marker,
		Limits: Limits{Idle: 2 * time.Minute, Overall: 5 * time.Minute, Quiet: 2 * time.Minute},
	}
	s.ISO, s.ISOSize = bootCD(t, image)
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Kickstart, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// files lists what is left in the build's directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func checkFiles(t *testing.T, s Spec, want ...string) {
	t.Helper()
	if got := files(t, s.Dir); !slices.Equal(got, want) {
		t.Errorf("left in the directory: %q, want %q", got, want)
	}
}

// wantFailure checks what every failed installation has in common, and returns
// the error.
func wantFailure(t *testing.T, s Spec, err error) *InstallError {
	t.Helper()
	var failure *InstallError
	if !errors.As(err, &failure) {
		t.Fatalf("err = %v, want *InstallError", err)
	}
	if _, err := os.Stat(s.Disk); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the disk of a failed installation is still there (%v)", err)
	}
	if !strings.Contains(err.Error(), s.consolePath()) {
		t.Errorf("the error does not name the console log: %v", err)
	}
	return failure
}

func wantScreen(t *testing.T, failure *InstallError) {
	t.Helper()
	b, err := os.ReadFile(failure.Screen)
	if err != nil {
		t.Fatal(err)
	}
	screen, err := png.Decode(bytes.NewReader(b))
	if err != nil || screen.Bounds().Dx() < 320 {
		t.Errorf("the screen is no picture: %v", err)
	}
}

func TestSuccess(t *testing.T) {
	t.Parallel()
	image := newGuest().print(bootLine).writeDisk(3).print(markerLine).powerOff()
	s := newSpec(t, image)
	if err := Install(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, s, "console.log")
	console, err := os.ReadFile(s.consolePath())
	if err != nil || string(console) != bootLine+markerLine {
		t.Errorf("console.log = %q, %v", console, err)
	}
	disk, err := os.ReadFile(s.Disk)
	if err != nil || int64(len(disk)) != s.Hardware.DiskSize || !bytes.Equal(disk[:512], image[:512]) {
		t.Errorf("the disk has %d bytes and not what the guest wrote (%v)", len(disk), err)
	}
	for path, want := range map[string]os.FileMode{s.Disk: 0o600, s.consolePath(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

// TestMuchOutput: nothing of the serial port's output is lost or waits for a
// slow Progress.
func TestMuchOutput(t *testing.T) {
	t.Parallel()
	const lines = 300
	line := strings.Repeat("0123456789", 10) + "\r\n"
	g := newGuest()
	g.repeat(lines, func() { g.print(line) })
	s := newSpec(t, g.print(markerLine).powerOff())
	finished := make(chan struct{})
	s.Progress = func(p Progress) {
		if p.Phase == "loading" { // the first one comes before QEMU's start
			<-finished
		}
	}
	go func() {
		defer close(finished)
		waitForFile(t, s.consolePath(), int64(lines*len(line)))
	}()
	if err := Install(t.Context(), s); err != nil {
		t.Error(err)
	}
	console, err := os.ReadFile(s.consolePath())
	if want := strings.Repeat(line, lines) + markerLine; err != nil || string(console) != want {
		t.Errorf("console.log has %d bytes (%v), want %d", len(console), err, len(want))
	}
}

// waitForFile waits until a file has at least size bytes.
func waitForFile(t *testing.T, path string, size int64) {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Size() >= size {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s did not grow to %d bytes", path, size)
			return
		}
	}
}

// TestHardwareBoots starts each profile's machine, with less memory, and lets
// its installer come to a good end.
func TestHardwareBoots(t *testing.T) {
	t.Parallel()
	image := newGuest().print(markerLine).powerOff()
	for name, h := range profiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpec(t, image)
			s.Hardware = h
			s.Hardware.MemoryMiB = 64
			if err := Install(t.Context(), s); err != nil {
				t.Error(err)
			}
			checkFiles(t, s, "console.log")
		})
	}
}

// TestOverlay boots what ISOWrites say, through a directory whose name neither
// QEMU's option parser nor a shell would like, and finds the inputs unchanged.
func TestOverlay(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().print("not patched").hang())
	s.Hardware.KickstartMedium = "usb"
	awkward := filepath.Join(filepath.Dir(s.Dir), strings.Repeat(`a, "$HOME" *;`, 12))
	if err := os.Rename(s.Dir, awkward); err != nil {
		t.Fatal(err)
	}
	s.Dir = awkward
	before, err := os.ReadFile(s.ISO)
	if err != nil {
		t.Fatal(err)
	}
	offset := bytes.Index(before, newGuest().code)
	patch := newGuest().print(markerLine).powerOff()
	s.ISOWrites = []Write{
		{Offset: int64(offset), Data: patch},
		{Offset: s.ISOSize, Data: bytes.Repeat([]byte{1}, 2048)}, // behind the ISO's end
	}
	s.ISOSize += 2048
	if err := Install(t.Context(), s); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(s.ISO); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the ISO was changed (%v)", err)
	}
	checkFiles(t, s, "console.log")
}

func TestPowerOffWithoutMarker(t *testing.T) {
	t.Parallel()
	// A line that only contains the marker's text is not the marker.
	s := newSpec(t, newGuest().print(bootLine+logPrefix+marker+"x\r\nbye\r\n").powerOff())
	err := Install(t.Context(), s)
	failure := wantFailure(t, s, err)
	if !strings.Contains(failure.Cause, "powered off before") || failure.Message != "bye" || failure.Phase != "booting" {
		t.Errorf("failure = %+v", failure)
	}
	if fault.ClassOf(err) != fault.Failed {
		t.Errorf("class = %d", fault.ClassOf(err))
	}
	wantScreen(t, failure)
	checkFiles(t, s, "console.log", "screen.png")
}

func TestReset(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, cause string }{
		"after the marker":  {markerLine, "reset after the kickstart's %post reported success"},
		"before the marker": {bootLine, "reset before"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpec(t, newGuest().print(tt.text).reset())
			failure := wantFailure(t, s, Install(t.Context(), s))
			if !strings.Contains(failure.Cause, tt.cause) {
				t.Errorf("cause = %q, want %q", failure.Cause, tt.cause)
			}
		})
	}
}

func TestHang(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().print(bootLine).hang())
	s.Limits.Idle = time.Second
	failure := wantFailure(t, s, Install(t.Context(), s))
	if !strings.Contains(failure.Cause, "nothing new on the serial port or the drives for 1s") {
		t.Errorf("cause = %q", failure.Cause)
	}
	wantScreen(t, failure)
}

func TestOverallLimit(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().hang())
	s.Limits.Overall = 2 * time.Second
	failure := wantFailure(t, s, Install(t.Context(), s))
	if !strings.Contains(failure.Cause, "not finished after 2s") {
		t.Errorf("cause = %q", failure.Cause)
	}
}

// TestProgress: what a guest does is reported while it does it.
func TestProgress(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := newGuest().print("busy\r\n")
	again := len(g.code)
	g.writeDisk(0xffff)
	back := again - len(g.code) - 2
	s := newSpec(t, g.emit(0xeb, byte(back)).hang()) // jmp again
	s.ExpectedWritten = 1 << 40
	var last Progress
	s.Progress = func(p Progress) {
		if p.Written < last.Written || p.Percent < last.Percent {
			t.Errorf("progress goes back: %+v after %+v", p, last)
		}
		if 0 < last.Written && last.Written < p.Written {
			cancel()
		}
		last = p
	}
	if err := Install(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("the installation ended before it went on: %v", err)
	}
	if last.LastLine != "busy" || last.Percent < 0 {
		t.Errorf("last progress = %+v", last)
	}
}

func TestInstallerError(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().print(bootLine+
		logPrefix+"weasel: reading the kickstart\r\n"+
		logPrefix+"error:KS.CFG:line 3: \x1b[31munknown\x1b[0m command\r\n"+
		"press a key\r\n").hang())
	s.Limits.Quiet = time.Second
	failure := wantFailure(t, s, Install(t.Context(), s))
	want := InstallError{
		Phase: "installing", Cause: "the installer stopped with an error",
		Message: "error:KS.CFG:line 3: unknown command", Console: s.consolePath(), Screen: s.screenPath(),
	}
	if *failure != want {
		t.Errorf("failure = %+v\nwant      %+v", *failure, want)
	}
	wantScreen(t, failure)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().hang())
	ctx, cancel := context.WithCancel(t.Context())
	var process *command.Process
	err := install(ctx, s, func(p *command.Process) {
		process = p
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
	var failure *InstallError
	if errors.As(err, &failure) {
		t.Errorf("a cancelled installation is no failed one: %v", err)
	}
	if syscall.Kill(process.Pid(), 0) != syscall.ESRCH {
		t.Errorf("QEMU is still there")
	}
	if _, err := os.Stat(s.Disk); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the disk is still there (%v)", err)
	}
	checkFiles(t, s, "console.log")
}

func TestQEMUKilled(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().print(markerLine).hang())
	var pid atomic.Int64
	s.Progress = func(p Progress) {
		// Once the marker was seen: being killed is not a power-off.
		if p.Phase == "powering off" {
			_ = syscall.Kill(int(pid.Load()), syscall.SIGKILL)
		}
	}
	failure := wantFailure(t, s, install(t.Context(), s, func(p *command.Process) { pid.Store(int64(p.Pid())) }))
	if !strings.Contains(failure.Error(), "QEMU ended before") || !strings.Contains(failure.Error(), "killed") || failure.Screen != "" {
		t.Errorf("failure = %v", failure)
	}
	checkFiles(t, s, "console.log")
}

// TestQEMUTerminated: a polite SIGTERM, as at a machine's shutdown, lets QEMU
// end with success; the installation is none.
func TestQEMUTerminated(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().print(markerLine).hang())
	var pid atomic.Int64
	s.Progress = func(p Progress) {
		if p.Phase == "powering off" {
			_ = syscall.Kill(int(pid.Load()), syscall.SIGTERM)
		}
	}
	err := install(t.Context(), s, func(p *command.Process) { pid.Store(int64(p.Pid())) })
	failure := wantFailure(t, s, err)
	if !strings.Contains(failure.Error(), "terminating on signal 15") || fault.ClassOf(err) != fault.TryLater {
		t.Errorf("failure = %v (class %d)", failure, fault.ClassOf(err))
	}
}

// TestBothTerminated: when the signal is for esxid too, and reaches QEMU first,
// the installation was cancelled and has not failed.
func TestBothTerminated(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().hang())
	ctx, cancel := context.WithCancel(t.Context())
	err := install(ctx, s, func(p *command.Process) {
		_ = syscall.Kill(p.Pid(), syscall.SIGTERM)
		<-p.Done()
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
}

func TestQEMURefuses(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().hang())
	s.Hardware.NIC = "no-such-nic"
	failure := wantFailure(t, s, Install(t.Context(), s))
	if failure.Phase != "starting" || strings.Count(failure.Error(), "'no-such-nic' is not a valid device model name") != 1 {
		t.Errorf("failure = %v", failure)
	}
}

func TestQEMUMissing(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().hang())
	s.QEMU = filepath.Join(s.Dir, "qemu-system-x86_64")
	err := Install(t.Context(), s)
	if fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "apt install qemu-system-x86") {
		t.Errorf("err = %v", err)
	}
	checkFiles(t, s, "console.log")
}

func TestISOMissing(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().hang())
	s.ISO += ".gone"
	if err := Install(t.Context(), s); err == nil || !strings.Contains(err.Error(), "No such file") || !strings.Contains(err.Error(), s.ISO) {
		t.Errorf("err = %v", err)
	}
	checkFiles(t, s)
}

// TestDiskTooLarge makes the host refuse the guest's writes: ulimit -f counts
// blocks of 512 bytes, and signal 25 is SIGXFSZ.
func TestDiskTooLarge(t *testing.T) {
	t.Parallel()
	s := newSpec(t, newGuest().print(bootLine).writeDisk(1).print(markerLine).powerOff())
	s.QEMU = script(t, "trap '' 25; ulimit -f 0; exec qemu-system-x86_64 \"$@\"")
	failure := wantFailure(t, s, Install(t.Context(), s))
	if !strings.Contains(failure.Cause, "cannot write "+s.Disk+": File too large") {
		t.Errorf("failure = %v", failure)
	}
}

// script writes a shell script that stands in for QEMU.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
