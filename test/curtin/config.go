package curtin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Config is what matters here of the configuration MAAS gives curtin.
type Config struct {
	JSON  []byte // all of it
	Disks []Disk // sorted by name, which is the order in which Linux finds them
}

// Disk is a disk of the machine, as MAAS knows it.
type Disk struct {
	Name   string // the kernel's: "sda", "nvme0n1"
	Serial string // "" if MAAS names the disk by its path
	Path   string // "/dev/disk/by-id/..." or the kernel's
	Boot   bool   // where MAAS wants the image
	Size   int64  // bytes that MAAS's partitions need; 0 if it has none there

	wiped bool
}

type storageEntry struct {
	ID, Name, Type, Serial, Path string
	Device, Size, Wipe           string
	GrubDevice                   bool `json:"grub_device"`
}

// ParseConfig reads a configuration in JSON.
func ParseConfig(text []byte) (Config, error) {
	var config struct {
		Storage struct{ Config []storageEntry }
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return Config{}, fmt.Errorf("cannot read the curtin configuration: %w", err)
	}
	disks := map[string]*Disk{}
	for _, e := range config.Storage.Config {
		switch e.Type {
		case "disk":
			disks[e.ID] = &Disk{Name: e.Name, Serial: e.Serial, Path: e.Path, Boot: e.GrubDevice, wiped: e.Wipe != ""}
		case "partition":
			size, err := strconv.ParseInt(strings.TrimSuffix(e.Size, "B"), 10, 64)
			if err != nil || disks[e.Device] == nil {
				return Config{}, fmt.Errorf("cannot use partition %s: size %q on device %q", e.ID, e.Size, e.Device)
			}
			disks[e.Device].Size += size
		}
	}
	c := Config{JSON: text}
	for _, d := range disks {
		if d.Size > 0 {
			d.Size = (d.Size + 6<<20 + 4<<20 - 1) &^ (4<<20 - 1) // MAAS leaves 5 or 6 MiB, and what is left of 4
		}
		c.Disks = append(c.Disks, *d)
	}
	slices.SortFunc(c.Disks, func(a, b Disk) int { return cmp.Compare(a.Name, b.Name) })
	return c, nil
}

// Target is the disk that curtin writes a dd image to: the boot disk if it has
// a serial number, else the first by name of those it has to wipe, whichever
// disk MAAS means.
func (c Config) Target() (Disk, error) {
	for _, d := range c.Disks {
		if d.Boot && d.Serial != "" {
			return d, nil
		}
	}
	for _, d := range c.Disks {
		if d.wiped {
			return d, nil
		}
	}
	return Disk{}, errors.New("the curtin configuration has no disk to write the image to")
}
