// Package vm runs an ESXi installer in a QEMU virtual machine and says whether
// the installation worked.
//
// Nothing is typed into the guest. The installer finds its kickstart through
// the boot.cfg that Spec.ISOWrites patches into a qcow2 overlay over the
// untouched ISO. QEMU is driven over QMP and the guest's first serial port is
// read from the first byte on. An installation is good when the marker, which
// the kickstart's %post writes to the VMkernel's log, was seen and the guest
// then powered itself off; anything else is an *InstallError.
//
// Whatever the guest sends is hostile: lines, the console log and every quoted
// text are bounded, and a quoted one has no control characters. Passwords, their
// hashes and licence keys are blanked where an installer's log has them.
package vm

import (
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/esxid/esxid/internal/fault"
)

// Hardware is the virtual machine an installer gets. Which ESXi version has
// drivers for what is the caller's knowledge; here it is only checked that QEMU
// can build it.
type Hardware struct {
	Machine         string // "pc" (i440FX) or "q35"
	NIC             string // QEMU device: "e1000", "e1000e", "vmxnet3"
	MAC             string // of the NIC; it stays in the installed system
	DiskBus         string // "ahci" or "ide"
	CDBus           string // "ahci" or "ide"
	KickstartMedium string // "cdrom": a second CD on CDBus; "usb": a USB stick
	MemoryMiB       int
	CPUs            int
	CPUModel        string // "": host under KVM, max under TCG
	DiskSize        int64  // bytes, a multiple of 512
}

// Write is data put into the overlay at an offset of the ISO. Offset and
// len(Data) are multiples of 512.
type Write struct {
	Offset int64
	Data   []byte
}

// Limits end an installation that does not come to an end. A zero field means
// the default.
type Limits struct {
	// Idle is how long the guest may neither write to its serial port, nor write
	// to its disk, nor read from the installer CD. Default 15 minutes.
	Idle time.Duration
	// Overall is the limit for the whole installation. Default 3 hours.
	Overall time.Duration
	// Quiet replaces Idle once the installer printed an error it is known to
	// stop at: it then waits at a prompt that nobody will answer. Default 30 s.
	Quiet time.Duration
}

// Spec describes one installation.
type Spec struct {
	// Dir is an existing private directory. console.log and, after a failure,
	// screen.png are left in it; other files are made and removed again.
	Dir string
	// ISO is the installer; it is opened for reading only. ISOSize is the
	// virtual size of the CD with ISOWrites applied, a multiple of 512.
	ISO       string
	ISOSize   int64
	ISOWrites []Write
	// Kickstart is the prepared medium: an ISO 9660 file or the raw image of a
	// USB stick, as Hardware.KickstartMedium says. It is not changed.
	Kickstart string
	// Disk is created (an existing file is replaced), sparse, with
	// Hardware.DiskSize bytes. It is written without flushing: after a success
	// the caller syncs it. After a failure it is removed.
	Disk     string
	Hardware Hardware
	Accel    string // "kvm" or "tcg": see Resolve
	Marker   string // [A-Za-z0-9-]+, at least 8 characters
	QEMU     string // the program; "": qemu-system-x86_64
	Limits   Limits
	// ExpectedWritten is about how many bytes a whole installation writes to the
	// disk; 0 if unknown, and then the progress has no percentage.
	ExpectedWritten int64
	// Progress, if not nil, is called about once per second.
	Progress func(Progress)
}

// Progress says how far an installation is.
type Progress struct {
	Phase    string  // "starting", "loading", "booting", "installing", "post", "powering off"
	Percent  float64 // 0 to 100, never falling; negative: unknown
	Written  int64   // bytes written to the disk
	LastLine string  // the last line on the serial port, readable and bounded
}

const (
	defaultQEMU    = "qemu-system-x86_64"
	defaultIdle    = 15 * time.Minute
	defaultOverall = 3 * time.Hour
	defaultQuiet   = 30 * time.Second
)

var (
	markerForm  = regexp.MustCompile(`^[A-Za-z0-9-]{8,128}$`)
	deviceForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	cpuForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.,+=-]{0,255}$`)
	maxDiskSize = int64(1) << 46 // 64 TiB: a typing mistake, not a disk
)

// Check reports hardware that QEMU cannot build.
func (h Hardware) Check() error {
	bad := func(format string, args ...any) error { return fault.New(fault.Config, format, args...) }
	mac, err := net.ParseMAC(h.MAC)
	switch {
	case h.Machine != "pc" && h.Machine != "q35":
		return bad("machine %q is neither pc nor q35", h.Machine)
	case !deviceForm.MatchString(h.NIC):
		return bad("NIC %q is not the name of a QEMU device", h.NIC)
	case err != nil || len(mac) != 6 || mac[0]&1 != 0:
		return bad("MAC %q is not a unicast Ethernet address like 00:50:56:00:00:01", h.MAC)
	case h.DiskBus != "ahci" && h.DiskBus != "ide":
		return bad("disk bus %q is neither ahci nor ide", h.DiskBus)
	case h.CDBus != "ahci" && h.CDBus != "ide":
		return bad("CD bus %q is neither ahci nor ide", h.CDBus)
	case h.Machine == "q35" && (h.DiskBus == "ide" || h.CDBus == "ide"):
		return bad("machine q35 has no IDE bus: use machine pc, or ahci for the disk and the CD")
	case h.KickstartMedium != "cdrom" && h.KickstartMedium != "usb":
		return bad("kickstart medium %q is neither cdrom nor usb", h.KickstartMedium)
	case h.MemoryMiB < 16 || h.MemoryMiB > 1<<20:
		return bad("memory of %d MiB is not between 16 MiB and 1 TiB", h.MemoryMiB)
	case h.CPUs < 1 || h.CPUs > 255:
		return bad("%d CPUs are not between 1 and 255", h.CPUs)
	case h.CPUModel != "" && !cpuForm.MatchString(h.CPUModel):
		return bad("CPU model %q is not one of: qemu-system-x86_64 -cpu help", h.CPUModel)
	case h.DiskSize <= 0 || h.DiskSize > maxDiskSize || h.DiskSize%512 != 0:
		return bad("disk size %d is not a positive multiple of 512 bytes", h.DiskSize)
	}
	return nil
}

// prepared returns s checked, with absolute paths and defaults filled in.
func (s Spec) prepared() (Spec, error) {
	if err := s.Hardware.Check(); err != nil {
		return s, err
	}
	switch {
	case s.Accel != "kvm" && s.Accel != "tcg":
		return s, fault.New(fault.Config, "accelerator %q is neither kvm nor tcg", s.Accel)
	case !markerForm.MatchString(s.Marker):
		return s, fault.New(fault.Usage, "marker %q is not 8 to 128 characters of A-Z, a-z, 0-9 and -", s.Marker)
	case s.ISOSize <= 0 || s.ISOSize%512 != 0:
		return s, fault.New(fault.Usage, "ISO size %d is not a positive multiple of 512 bytes", s.ISOSize)
	}
	for _, path := range []*string{&s.Dir, &s.ISO, &s.Kickstart, &s.Disk} {
		if *path == "" {
			return s, fault.New(fault.Usage, "the directory, ISO, kickstart and disk all need a path")
		}
		// QEMU takes paths in JSON, which holds UTF-8 only.
		if !utf8.ValidString(*path) {
			return s, fault.New(fault.Usage, "cannot use the path %q: its name is not UTF-8; rename it", *path)
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return s, err
		}
		*path = abs
	}
	for _, w := range s.ISOWrites {
		if w.Offset < 0 || w.Offset%512 != 0 || len(w.Data) == 0 || len(w.Data)%512 != 0 || w.Offset > s.ISOSize-int64(len(w.Data)) {
			return s, fault.New(fault.Usage, "ISO write of %d bytes at %d is not in whole sectors of 512 bytes within %d", len(w.Data), w.Offset, s.ISOSize)
		}
	}
	if s.QEMU == "" {
		s.QEMU = defaultQEMU
	}
	if strings.Contains(s.QEMU, "/") { // it is started in another directory
		var err error
		if s.QEMU, err = filepath.Abs(s.QEMU); err != nil {
			return s, err
		}
	}
	if s.Limits.Idle <= 0 {
		s.Limits.Idle = defaultIdle
	}
	if s.Limits.Overall <= 0 {
		s.Limits.Overall = defaultOverall
	}
	if s.Limits.Quiet <= 0 {
		s.Limits.Quiet = defaultQuiet
	}
	if s.Progress == nil {
		s.Progress = func(Progress) {}
	}
	return s, nil
}

func (s Spec) consolePath() string          { return filepath.Join(s.Dir, "console.log") }
func (s Spec) screenPath() string           { return filepath.Join(s.Dir, "screen.png") }
func (s Spec) monitorPath() string          { return filepath.Join(s.Dir, monitorName) }
func (s Spec) overlayPath() string          { return filepath.Join(s.Dir, "overlay.qcow2") }
func (s Spec) kickstartOverlayPath() string { return filepath.Join(s.Dir, "kickstart.qcow2") }
