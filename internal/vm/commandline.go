package vm

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// The descriptors QEMU inherits: connected sockets, so that there are no socket
// files to name, protect, connect to or remove, and the limit of 108 bytes for
// their paths does not matter.
const (
	qmpFD    = 3
	serialFD = 4
)

// CommandLine returns the arguments QEMU is started with, without the program's
// name. Spec must be one that Install accepts, with absolute paths. QEMU runs in
// Spec.Dir.
func CommandLine(s Spec) []string {
	h := s.Hardware
	args := []string{
		"-name", "guest=" + escaped("esxid-"+filepath.Base(s.Dir)),
		"-nodefaults", "-no-user-config",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", h.Machine,
		"-accel", s.Accel,
		"-cpu", cpu(s),
		"-m", fmt.Sprintf("size=%dM", h.MemoryMiB),
		"-smp", fmt.Sprintf("cpus=%d,sockets=1,cores=%[1]d,threads=1", h.CPUs),
		// Stopped until "cont", so that not one byte or event is missed. A reset
		// would boot the CD again and install for ever; a power-off only stops
		// the guest, so that its screen can still be read.
		"-S", "-action", "reboot=shutdown,shutdown=pause,panic=pause",
		// Only devices with a bootindex: no disk, no network.
		"-boot", "strict=on",
		"-display", "none", "-vga", "std",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpFD), "-mon", "chardev=qmp,mode=control",
		// For Screenshot, which another process may call.
		"-qmp", "unix:" + monitorName + ",server=on,wait=off",
		"-chardev", fmt.Sprintf("socket,id=serial,fd=%d", serialFD), "-serial", "chardev:serial",
		// The installer insists on a NIC but needs no network. No option ROM: it
		// is only there to boot from the network.
		"-netdev", "user,id=net0,restrict=on",
		"-device", fmt.Sprintf("%s,netdev=net0,mac=%s,romfile=", h.NIC, h.MAC),
	}
	if h.Machine == "pc" && (h.DiskBus == "ahci" || h.CDBus == "ahci") {
		args = append(args, "-device", "ich9-ahci,id=ahci")
	}
	args = append(args,
		"-blockdev", blockdev(diskNode(s)),
		"-device", "ide-hd,id=disk,drive=disk,werror=stop,rerror=stop,bus="+port(h, h.DiskBus, 0),
		"-blockdev", blockdev(overlayNode("installer", s.overlayPath(), s.ISO, true)),
		"-device", "ide-cd,id=installer,drive=installer,rerror=stop,bootindex=0,bus="+port(h, h.CDBus, 1),
	)
	if h.KickstartMedium == "cdrom" {
		return append(args,
			"-blockdev", blockdev(rawNode("kickstart", s.Kickstart)),
			"-device", "ide-cd,id=kickstart,drive=kickstart,bus="+port(h, h.CDBus, 2))
	}
	// ICH9 EHCI is the controller that ESXi 7 to 9 is known to find a stick on
	// (it is what QEMU's -usb gives a q35 machine, as canonical/packer-maas uses
	// it), and USB 2.0 is what 6.x already had drivers for. The stick can be
	// written, as a real one, but into an overlay.
	return append(args,
		"-device", "ich9-usb-ehci1,id=usb",
		"-blockdev", blockdev(overlayNode("kickstart", s.kickstartOverlayPath(), s.Kickstart, false)),
		"-device", "usb-storage,id=kickstart,drive=kickstart,bus=usb.0")
}

func cpu(s Spec) string {
	switch {
	case s.Hardware.CPUModel != "":
		return s.Hardware.CPUModel
	case s.Accel == "kvm":
		return "host"
	}
	return "max"
}

// port returns where the n-th drive (0: disk, 1: installer, 2: kickstart) is
// plugged in. The pc machine has two IDE channels with two units each; a CD is
// never beside the disk, as both units of a channel share its time.
func port(h Hardware, bus string, n int) string {
	switch {
	case bus == "ide":
		return [...]string{"ide.0,unit=0", "ide.1,unit=0", "ide.1,unit=1"}[n]
	case h.Machine == "q35":
		return fmt.Sprintf("ide.%d", n) // the built-in AHCI's ports
	}
	return fmt.Sprintf("ahci.%d", n)
}

// node is a block device as -blockdev takes it in JSON, where a path needs no
// escaping.
type node struct {
	Driver       string `json:"driver"`
	Name         string `json:"node-name,omitempty"`
	ReadOnly     bool   `json:"read-only,omitempty"`
	Filename     string `json:"filename,omitempty"`
	Discard      string `json:"discard,omitempty"`
	DetectZeroes string `json:"detect-zeroes,omitempty"`
	Cache        *cache `json:"cache,omitempty"`
	File         *node  `json:"file,omitempty"`
	Backing      *node  `json:"backing,omitempty"`
}

type cache struct {
	NoFlush bool `json:"no-flush"`
}

// diskNode keeps what the guest writes as data, zeros included: a hole in the
// finished disk is a place that was never written. Flushes are ignored; the
// installation is repeated after a crash, and synced once when it is good.
func diskNode(s Spec) node {
	noFlush := &cache{NoFlush: true}
	return node{
		Driver: "raw", Name: "disk", Discard: "ignore", DetectZeroes: "off", Cache: noFlush,
		File: &node{Driver: "file", Filename: s.Disk, Discard: "ignore", Cache: noFlush},
	}
}

func rawNode(name, path string) node {
	return node{Driver: "raw", Name: name, ReadOnly: true, File: &node{Driver: "file", Filename: path, ReadOnly: true}}
}

func overlayNode(name, overlay, base string, readOnly bool) node {
	backing := rawNode("", base)
	return node{
		Driver: "qcow2", Name: name, ReadOnly: readOnly,
		File:    &node{Driver: "file", Filename: overlay, ReadOnly: readOnly},
		Backing: &backing,
	}
}

func blockdev(n node) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// A struct of strings and booleans cannot fail to encode.
	_ = enc.Encode(n)
	return strings.TrimSpace(b.String())
}

// escaped doubles commas, as QEMU's option parser wants it.
func escaped(s string) string { return strings.ReplaceAll(s, ",", ",,") }
