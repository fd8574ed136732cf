package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/esxid/esxid/test/esxisim"
)

// macForm is a MAC address as ESXi prints it.
var macForm = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)

// Machine is a host in memory, for the time of one call.
type Machine struct {
	Hardware *Hardware
	Release  esxisim.Release
	Devices  []Device // in ESXi's order
	State    *State
	Runtime  *Runtime
	Root     string // the directory that holds the host's files
	Now      time.Time
}

func newMachine(hw *Hardware, root string) (*Machine, error) {
	r, err := hw.Release()
	if err != nil {
		return nil, err
	}
	return &Machine{Hardware: hw, Release: r, Devices: hw.Devices(), Root: root, Now: time.Now()}, nil
}

// AtLeast reports whether the host's ESXi is not older than that version.
func (m *Machine) AtLeast(number ...int) bool { return m.Release.AtLeast(number...) }

// Path is the place of one of the host's files.
func (m *Machine) Path(name string) string { return filepath.Join(m.Root, name) }

// Random returns bytes that follow from the hardware's name and from how many
// were drawn before.
func (m *Machine) Random() [32]byte {
	m.Runtime.Generated++
	return sha256.Sum256(fmt.Appendf(nil, "%s %d", m.Hardware.Name, m.Runtime.Generated))
}

// Device finds a disk by name, by path or by its vml name; nil if there is none.
func (m *Machine) Device(name string) *Device {
	for _, prefix := range []string{m.Root, "/vmfs/devices/disks/", "/dev/disks/"} {
		name = strings.TrimPrefix(name, prefix)
	}
	for i := range m.Devices {
		if d := &m.Devices[i]; d.Name == name || d.VML() == name {
			return d
		}
	}
	return nil
}

// BootDevice is the disk that ESXi is on; nil if the machine has no disk.
func (m *Machine) BootDevice() *Device {
	for i := range m.Devices {
		if m.Devices[i].Boot {
			return &m.Devices[i]
		}
	}
	return nil
}

// HostdReady reports whether hostd answers.
func (m *Machine) HostdReady() bool {
	ready := time.UnixMilli(m.Runtime.HostdMS).Add(time.Duration(m.Hardware.HostdReadyMS) * time.Millisecond)
	s := m.State.Service("hostd")
	return s != nil && s.Running && !m.Now.Before(ready)
}

// firstMAC is that of vmnic0, without colons.
func (m *Machine) firstMAC() string {
	if len(m.Hardware.NICs) == 0 {
		return "000000000000"
	}
	return strings.ReplaceAll(m.Hardware.NICs[0].MAC, ":", "")
}

// NewUUID makes a system UUID, which ends with a MAC address.
func (m *Machine) NewUUID() string {
	r := m.Random()
	return uuidText(r, m.firstMAC())
}

func uuidText(r [32]byte, mac string) string {
	h := hex.EncodeToString(r[:10])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], mac)
}

// newVolumeUUID makes the UUID of a file system.
func (m *Machine) newVolumeUUID() string {
	r := m.Random()
	return volumeUUID(r, m.firstMAC())
}

func volumeUUID(r [32]byte, mac string) string {
	h := hex.EncodeToString(r[:10])
	return fmt.Sprintf("%s-%s-%s-%s", h[:8], h[8:16], h[16:20], mac)
}

// NewMAC makes the address of a vmk: one of VMware's, 00:50:56:60:00:00 and up.
func (m *Machine) NewMAC() string {
	r := m.Random()
	return fmt.Sprintf("00:50:56:6%x:%02x:%02x", r[0]&0xf, r[1], r[2])
}

// linkLocal is the IPv6 address that an interface makes from its MAC (RFC 4291,
// appendix A).
func linkLocal(mac string) netip.Prefix {
	b, err := net.ParseMAC(mac)
	if err != nil || len(b) != 6 {
		return netip.Prefix{}
	}
	a := [16]byte{0: 0xfe, 1: 0x80, 8: b[0] ^ 2, 9: b[1], 10: b[2], 11: 0xff, 12: 0xfe, 13: b[3], 14: b[4], 15: b[5]}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}
