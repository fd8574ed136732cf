package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

// pollInterval is how often the drives' counters, for which QEMU has no event,
// are read and the limits checked.
const pollInterval = time.Second

// signalGrace is how long a cancelled context may come after the signal to QEMU
// that has the same cause.
const signalGrace = time.Second

// InstallError is an installation that started and did not succeed. Its class
// is fault.Failed, CannotWrite when the disk's file system is full, or TryLater
// when QEMU was told to end.
type InstallError struct {
	Phase   string `json:"phase"`   // as in Progress
	Cause   string `json:"cause"`   // what happened
	Message string `json:"message"` // the installer's own words: its error, else its last line; may be empty
	Console string `json:"console"` // path of the serial log
	Screen  string `json:"screen"`  // path of a PNG of the last screen; empty if there is none
	Err     error  `json:"-"`       // QEMU's error, if it had one
}

func (e *InstallError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot install ESXi: %s (phase: %s)", e.Cause, e.Phase)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, "; the installer said: %q", e.Message)
	}
	fmt.Fprintf(&b, "; see %s", e.Console)
	if e.Screen != "" {
		fmt.Fprintf(&b, " and %s", e.Screen)
	}
	return b.String()
}

func (e *InstallError) Unwrap() error { return e.Err }

// Install runs an installation to its end. It returns nil only when the marker
// was seen and the guest then powered itself off. The error is *InstallError
// once QEMU was started, unless ctx ended; then it wraps ctx's error.
//
// However it returns, QEMU is gone and only console.log, screen.png (after a
// failure) and Spec.Disk (after a success) are left.
func Install(ctx context.Context, s Spec) error {
	return install(ctx, s, func(*command.Process) {})
}

// install is Install which also tells a test about QEMU's process.
func install(ctx context.Context, s Spec, started func(*command.Process)) (err error) {
	s, err = s.prepared()
	if err != nil {
		return fmt.Errorf("cannot install ESXi: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(s.Disk)
		}
	}()
	defer removeAll(s.overlayPath(), s.kickstartOverlayPath(), filepath.Join(s.Dir, overlayData), s.monitorPath())
	if err := prepareDrives(ctx, s); err != nil {
		return fmt.Errorf("cannot install ESXi: %w", err)
	}
	console, err := createConsole(s.consolePath())
	if err != nil {
		return fmt.Errorf("cannot install ESXi: %w", err)
	}
	r := &run{spec: s, serial: &transcript{console: console, log: installerLog{marker: s.Marker}}}
	err = r.run(ctx, started)
	if closeErr := console.close(); err == nil && closeErr != nil {
		return fmt.Errorf("cannot install ESXi: %w", closeErr)
	}
	return err
}

// prepareDrives makes the files behind the drives, and removes what an earlier
// attempt left.
func prepareDrives(ctx context.Context, s Spec) error {
	removeAll(s.screenPath(), s.monitorPath())
	if err := createDisk(s.Disk, s.Hardware.DiskSize); err != nil {
		return err
	}
	if s.Hardware.KickstartMedium == "usb" {
		if err := createOverlay(ctx, s.kickstartOverlayPath(), s.Kickstart, 0, nil); err != nil {
			return err
		}
	}
	return createOverlay(ctx, s.overlayPath(), s.ISO, s.ISOSize, s.ISOWrites)
}

// removeAll removes files of which any may be missing.
func removeAll(paths ...string) {
	for _, path := range paths {
		os.Remove(path)
	}
}

// run is one installation under way. It belongs to one goroutine.
type run struct {
	spec     Spec
	vm       *machine
	serial   *transcript
	counters counters

	began   time.Time
	lastUse time.Time // when the guest last used a drive
}

// ending is why following the guest came to an end.
type ending struct {
	cause string
	// by is the reason of the guest's own SHUTDOWN event, "guest-shutdown" or
	// "guest-reset". If it is set, the verdict, and with it the cause, waits for
	// the rest of the serial log.
	by    string
	class fault.Class // 0: Failed
	qemu  bool        // QEMU's fault: what it printed is quoted
}

func (r *run) run(ctx context.Context, started func(*command.Process)) error {
	r.report()
	var err error
	r.vm, err = startMachine(ctx, r.spec.Dir, r.spec.QEMU, CommandLine(r.spec), r.serial)
	var refused *command.Error
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return fmt.Errorf("cannot install ESXi: %w", context.Cause(ctx))
	case errors.As(err, &refused):
		return r.failure(ending{cause: "QEMU did not start the machine"}, err, "")
	default:
		return fmt.Errorf("cannot install ESXi: %w", err)
	}
	started(r.vm.process)
	end := r.follow(ctx)
	if end.qemu {
		// A service manager that stops esxid may signal QEMU too, and first.
		select {
		case <-ctx.Done():
		case <-time.After(signalGrace):
		}
	}
	if ctx.Err() != nil {
		_ = r.vm.wait(0) // whatever it says: it was to be killed
		r.vm.close()
		r.serial.end()
		return fmt.Errorf("cannot install ESXi: %w", context.Cause(ctx))
	}

	screen := r.spec.screenPath()
	// There is none of a full disk, on which QEMU's PNG library aborts it.
	if end.class == fault.CannotWrite || r.vm.screendump(ctx, screen) != nil {
		removeAll(screen) // QEMU is gone or stuck: there is none to keep
		screen = ""
	}
	err = r.vm.quit()
	r.serial.end()
	if end.by != "" {
		end.cause = r.verdict(end.by)
	}
	switch {
	case end.cause == "" && err == nil:
		removeAll(screen)
		return nil
	case end.cause == "":
		end.cause = "QEMU failed at the end of the installation"
	case end.qemu && err == nil && r.vm.process.Stderr() != "":
		err = errors.New(r.vm.process.Stderr())
	}
	return r.failure(end, err, screen)
}

func (r *run) failure(end ending, qemu error, screen string) error {
	known := r.serial.known()
	return fault.As(max(end.class, fault.Failed), &InstallError{
		Phase: known.phase.String(), Cause: end.cause, Message: known.words,
		Console: r.spec.consolePath(), Screen: screen, Err: qemu,
	})
}

// verdict judges a guest that ended by itself; "" is success.
func (r *run) verdict(by string) string {
	known := r.serial.known()
	switch {
	case by == "guest-shutdown" && known.markerSeen:
		return ""
	case by == "guest-shutdown" && known.stopped:
		return "the installer failed and powered the machine off"
	case by == "guest-shutdown":
		return "the machine powered off before the kickstart's %post reported success"
	case known.markerSeen:
		return "the machine was reset after the kickstart's %post reported success, instead of powered off"
	}
	return "the machine was reset before the kickstart's %post reported success"
}

// follow lets the guest run until something ends it.
func (r *run) follow(ctx context.Context) ending {
	r.began = time.Now()
	r.lastUse = r.began
	r.serial.enter(loading)
	if err := r.vm.cont(ctx); err != nil {
		return ending{cause: "QEMU does not run the machine: " + err.Error(), qemu: true}
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ending{cause: "cancelled"}
		case event, ok := <-r.vm.qmp.events:
			if !ok {
				return ending{cause: "QEMU ended before the installation did", qemu: true}
			}
			if end, ended := r.event(ctx, event); ended {
				return end
			}
		case <-tick.C:
			r.poll(ctx)
			if end, ended := r.overdue(time.Now()); ended {
				return end
			}
			r.report()
		}
	}
}

// event judges what QEMU reports.
func (r *run) event(ctx context.Context, event qmpEvent) (ending, bool) {
	switch event.Name {
	case "SHUTDOWN":
		guest, reason := shutdownReason(event.Data)
		if guest {
			return ending{by: reason}, true
		}
		return ending{cause: "QEMU was told to end: " + reason, class: fault.TryLater, qemu: true}, true
	case "BLOCK_IO_ERROR":
		return r.ioFailure(event.Data), true
	case "STOP":
		// Follows the other events too, which then have ended the loop.
		status, err := r.vm.status(ctx)
		if err != nil || status == "running" {
			return ending{}, false
		}
		return ending{cause: fmt.Sprintf("QEMU stopped the machine (%s)", status), qemu: true}, true
	}
	return ending{}, false
}

// ioFailure judges a drive's file that cannot be read or written.
func (r *run) ioFailure(data json.RawMessage) ending {
	var e ioError
	// Unreadable data still is an error of some drive.
	_ = json.Unmarshal(data, &e)
	file := map[string]string{"disk": r.spec.Disk, "installer": r.spec.ISO, "kickstart": r.spec.Kickstart}[e.Node]
	end := ending{cause: fmt.Sprintf("QEMU cannot %s %s: %s", e.Operation, file, e.Reason)}
	if e.NoSpace {
		end.class = fault.CannotWrite
		end.cause = fmt.Sprintf("no space is left for the virtual disk %s: free some, then try again", file)
	}
	return end
}

// poll reads the drives' counters. A QEMU too busy to answer is left to the
// limits.
func (r *run) poll(ctx context.Context) {
	now, err := r.vm.counters(ctx)
	if err != nil || now == r.counters {
		return
	}
	r.lastUse = time.Now()
	r.counters = now
	r.serial.disk(now.diskWritten)
}

// overdue checks the limits.
func (r *run) overdue(now time.Time) (ending, bool) {
	limits, known := r.spec.Limits, r.serial.known()
	idle := min(now.Sub(r.lastUse), now.Sub(known.lastInput))
	switch {
	case known.stopped && idle >= limits.Quiet:
		return ending{cause: "the installer stopped with an error"}, true
	case idle >= limits.Idle:
		cause := fmt.Sprintf("nothing new on the serial port or the drives for %v", limits.Idle)
		if known.markerSeen {
			return ending{cause: cause + ", although %post had reported success: the machine should have powered off"}, true
		}
		return ending{cause: cause + ": the installer hangs, or the idle limit is too low for this host"}, true
	case now.Sub(r.began) >= limits.Overall:
		return ending{cause: fmt.Sprintf("not finished after %v: if it was only slow, raise the overall limit", limits.Overall)}, true
	}
	return ending{}, false
}

func (r *run) report() {
	known := r.serial.known()
	r.spec.Progress(Progress{
		Phase:    known.phase.String(),
		Percent:  percent(known.phase, r.counters, r.spec),
		Written:  r.counters.diskWritten,
		LastLine: known.lastLine,
	})
}

// percent guesses how much of the installation is done. Loading goes by what
// was read of the CD, installing by what was written to the disk.
func percent(p phase, done counters, s Spec) float64 {
	share := func(part, whole int64) float64 { return min(float64(part)/float64(whole), 1) }
	if s.ExpectedWritten <= 0 {
		return -1
	}
	switch p {
	case starting:
		return 0
	case loading:
		return 15 * share(done.cdRead, s.ISOSize)
	case booting:
		return 15
	case installing:
		return 25 + 65*share(done.diskWritten, s.ExpectedWritten)
	case postInstall:
		return 92
	}
	return 98
}
