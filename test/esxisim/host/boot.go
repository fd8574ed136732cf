package host

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/esxid/esxid/test/tinylinux"
)

// Boot boots a machine from its disk in a virtual machine: the real boot banks
// are mounted, and the %firstboot scripts that the installer has stored run if
// they have not run yet.
type Boot struct {
	Hardware Hardware  // disks without an image get an empty file
	Disk     string    // the file of the boot disk
	Forwards []Forward // to servers on 127.0.0.1
}

// BootJob is what the virtual machine is told.
type BootJob struct {
	Hardware Hardware  `json:"hardware"`
	Tools    string    `json:"tools"`
	Forwards []Forward `json:"forwards"`
}

// BootResult is what became of the host.
type BootResult struct {
	State    State             `json:"state"`
	Scripts  []BootScript      `json:"scripts"`            // that ran
	Problems []string          `json:"problems,omitempty"` // as Check finds them
	Calls    []string          `json:"calls"`              // of tools, in order
	Files    map[string]string `json:"files"`              // what is left in esxid's directories
	Console  string            `json:"console"`
}

// BootScript is a %firstboot script.
type BootScript struct {
	Name string `json:"name"`
	Exit int    `json:"exit"`
}

// Run boots the machine and returns when its first boot is over.
func (b Boot) Run(ctx context.Context) (BootResult, error) {
	if err := b.Hardware.complete(); err != nil {
		return BootResult{}, err
	}
	// The virtual machine sees this process's files, but not those in /tmp.
	cache, err := tinylinux.CacheDir()
	if err != nil {
		return BootResult{}, err
	}
	dir, err := os.MkdirTemp(cache, "boot-*")
	if err != nil {
		return BootResult{}, err
	}
	defer os.RemoveAll(dir)
	tools, err := BuildTools(ctx, dir)
	if err != nil {
		return BootResult{}, err
	}
	m, err := b.machine(dir, tools)
	if err != nil {
		return BootResult{}, err
	}
	r, err := tinylinux.Run(ctx, m)
	if err != nil {
		return BootResult{}, err
	}
	var result BootResult
	if r.ExitCode != 0 {
		return result, fmt.Errorf("the boot failed: %s", r.Stderr)
	}
	if err := json.Unmarshal(r.Stdout, &result); err != nil {
		return result, fmt.Errorf("cannot read what the host says: %w", err)
	}
	result.Console = string(bytes.ToValidUTF8(r.Stderr, nil))
	return result, nil
}

// machine is the virtual machine: all disks are SATA, in the hardware's order,
// for the tools give them their names; servers are reached through QEMU's own
// network, and nothing else is, because there is no route to it.
func (b Boot) machine(dir, tools string) (tinylinux.Machine, error) {
	m := tinylinux.Machine{
		Command: []string{filepath.Join(tools, "bin/boot"), "/boot-job.json"},
		Modules: []string{"virtio_net", "nls_cp437", "ipv6"}, WaitFor: []string{"/sys/class/net/eth0"},
	}
	job := BootJob{Hardware: b.Hardware, Tools: tools}
	job.Hardware.Disks = slices.Clone(b.Hardware.Disks)
	for i := range job.Hardware.Disks {
		d := &job.Hardware.Disks[i]
		switch {
		case d.Boot:
			d.Image = b.Disk // a path for QEMU only
		case d.Image == "":
			d.Image = filepath.Join(dir, fmt.Sprintf("disk%d.raw", i))
			if err := create(d.Image, d.Size); err != nil {
				return m, err
			}
		}
		// By its serial number: disks are probed side by side, and any may be sda.
		serial := fmt.Sprintf("disk%d", i)
		m.Disks = append(m.Disks, tinylinux.Disk{Path: d.Image, Bus: "sata", Serial: serial})
		m.WaitFor = append(m.WaitFor, "/dev/sd"+string(rune('a'+i)))
		if d.Boot {
			m.WaitFor = append(m.WaitFor, "/dev/sd?5", "/dev/sd?6")
		}
		d.Image = serial
	}
	for _, f := range b.Forwards {
		to, err := netip.ParseAddrPort(f.To)
		if err != nil || to.Addr() != netip.MustParseAddr("127.0.0.1") {
			return m, fmt.Errorf("the server %s is not on 127.0.0.1", f.To)
		}
		f.To = fmt.Sprintf("10.0.2.2:%d", to.Port()) // QEMU's name for our 127.0.0.1
		job.Forwards = append(job.Forwards, f)
	}
	m.Args = []string{"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"}
	text, err := json.Marshal(job)
	m.Files = map[string][]byte{"boot-job.json": text}
	return m, err
}

func create(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return cmp.Or(f.Truncate(size), f.Close())
}
