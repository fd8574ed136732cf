package curtin

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/tinylinux"
)

//go:embed ephemeral.py
var ephemeral []byte

// otherDisk is the size of disks that MAAS has no partitions on.
const otherDisk = 16 << 30

// Deployment is the part of a deployment that follows dd.
type Deployment struct {
	Config Config
	Disk   string // file of the disk that has the image
	Bus    string // "sata", "nvme"; "auto" or "": as the configuration names the disks
	Runs   int    // how often the hook runs, to see that it can; default 1

	// Machine describes the disks, by their names on Linux: their sizes, buses and
	// identities. Without it, they have what the configuration knows of them.
	Machine []host.Disk
}

// Result is what came of a deployment.
type Result struct {
	ExitCode  int    // of curtin's install: 0, or 3 for a failure
	Partition int    // where the hook was found, 0 if it was not
	Log       string // the installation log, then the partition table
}

var found = regexp.MustCompile(`(?m)^curtin: hook found on partition (\d+)$`)

// Run boots the machine of the configuration on the disk, and other disks of
// its own, and runs the hook there.
func (d Deployment) Run(ctx context.Context) (Result, error) {
	dir, err := os.MkdirTemp("", "curtin-*")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(dir)
	m, err := d.machine(dir)
	if err != nil {
		return Result{}, err
	}
	r, err := tinylinux.Run(ctx, m)
	if err != nil {
		return Result{}, err
	}
	result := Result{ExitCode: r.ExitCode, Log: string(r.Stdout) + string(r.Stderr)}
	if m := found.FindStringSubmatch(result.Log); m != nil {
		result.Partition, err = strconv.Atoi(m[1])
	}
	return result, err
}

// job is what ephemeral.py is told.
type job struct {
	Disks  []jobDisk       `json:"disks"`
	Target string          `json:"target"` // serial number
	Config json.RawMessage `json:"config"`
	Runs   int             `json:"runs"`
}

type jobDisk struct {
	Serial string `json:"serial"`
	Name   string `json:"name"` // if the configuration knows the disk by it
	Link   string `json:"link"` // below /dev/disk/by-id, if it knows it by that
	EUI    bool   `json:"eui"`  // the disk has an EUI-64
}

func (d Deployment) machine(dir string) (tinylinux.Machine, error) {
	target, err := d.Config.Target()
	if err != nil {
		return tinylinux.Machine{}, err
	}
	m := tinylinux.Machine{Command: []string{"python3", "-B", "/ephemeral.py", "/job.json"}}
	j := job{Config: d.Config.JSON, Runs: max(d.Runs, 1)}
	for i, disk := range d.Config.Disks {
		path, device := d.Disk, deviceName(disk.Name, d.Bus, i)
		hw := d.describe(disk.Name)
		known := jobDisk{Serial: cmp.Or(disk.Serial, hw.Serial, device), EUI: len(hw.EUI) > 0}
		if disk.Name == target.Name {
			j.Target = known.Serial
		} else {
			path = filepath.Join(dir, disk.Name)
			if err := create(path, cmp.Or(hw.Size, disk.Size, otherDisk)); err != nil {
				return m, err
			}
		}
		attach(&m, disk, hw, device, path)
		m.WaitFor = append(m.WaitFor, "/dev/"+device)
		if link, ok := strings.CutPrefix(disk.Path, "/dev/disk/by-id/"); ok {
			known.Link = link
		} else if disk.Path == "/dev/"+device {
			known.Name = device
		}
		j.Disks = append(j.Disks, known)
	}
	text, err := json.Marshal(j)
	m.Files = map[string][]byte{"ephemeral.py": ephemeral, "job.json": text}
	return m, err
}

// describe returns a disk of the machine, a zero one if it is not described.
func (d Deployment) describe(name string) host.Disk {
	i := slices.IndexFunc(d.Machine, func(hw host.Disk) bool { return hw.Linux == name })
	if i < 0 {
		return host.Disk{}
	}
	return d.Machine[i]
}

// deviceName is what Linux calls the disk: as in the configuration, or as the
// bus has it.
func deviceName(name, bus string, index int) string {
	switch bus {
	case "nvme":
		return fmt.Sprintf("nvme%dn1", index)
	case "sata":
		return "sd" + string(rune('a'+index))
	}
	return name
}
