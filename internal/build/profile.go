package build

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

// DiskSize is the size of the disk ESXi is installed on, in bytes. MAAS tells
// its VMFS7 layout by the partition sizes an installer makes on exactly 32 GiB.
const DiskSize = 32 << 30

// Profile is the hardware and the kernel options one version of the installer
// gets, and the partitions it leaves. The built-in ones are in profiles.toml.
type Profile struct {
	Version         string   `toml:"-" json:"version"` // the table it came from
	Machine         string   `toml:"machine" json:"machine"`
	NIC             string   `toml:"nic" json:"nic"`
	MAC             string   `toml:"mac" json:"mac"`
	DiskBus         string   `toml:"disk_bus" json:"disk_bus"`
	KickstartMedium string   `toml:"kickstart_medium" json:"kickstart_medium"`
	MemoryMiB       int      `toml:"memory_mib" json:"memory_mib"`
	CPUs            int      `toml:"cpus" json:"cpus"`
	CPUModel        string   `toml:"cpu_model" json:"cpu_model,omitempty"`
	KernelOptions   []string `toml:"kernel_options" json:"kernel_options"`
	Layout          string   `toml:"layout" json:"layout"`
}

// Partition is one the installer must have made.
type Partition struct {
	Number   int    `toml:"number"`
	Type     string `toml:"type"`  // GUID
	First    int64  `toml:"first"` // sector; 0: any
	Last     int64  `toml:"last"`  // sector, inclusive; 0: any
	FAT      bool   `toml:"fat"`
	Optional bool   `toml:"optional"`
}

// buildMAC is the address of the build VM's NIC. The installed vmk0 keeps it
// until the deployed host makes a new one, so it should be recognizable.
const buildMAC = "52:54:00:e5:1d:01"

//go:embed profiles.toml
var profilesTOML string

// ProfileFor returns the profile of an ESXi version ("8.0.3") with the
// operator's overrides. note is not empty when the version is newer than every
// profile.
func ProfileFor(version string, overrides map[string]config.Profile) (p Profile, note string, err error) {
	table, err := readProfiles()
	if err != nil {
		return Profile{}, "", err
	}
	key, ok := longestMatch(version, table.profiles)
	if !ok {
		first, last := table.order[0], table.order[len(table.order)-1]
		if majorOf(version) <= majorOf(last) {
			return Profile{}, "", fault.New(fault.Input, "ESXi %s is not supported: the oldest supported version is %s", version, first)
		}
		key = last
		note = fmt.Sprintf("ESXi %s is newer than this esxid knows; the hardware profile of ESXi %s is used", version, last)
	}
	p = table.profiles[key]
	p.Version, p.MAC = key, buildMAC
	if key, ok := longestMatch(version, overrides); ok {
		p.override(overrides[key])
	}
	return p, note, nil
}

// ProfileMemory returns how much memory the virtual machines get, in MiB, by ESXi
// version: each one that has a profile, built in or the operator's.
func ProfileMemory(overrides map[string]config.Profile) (map[string]int, error) {
	table, err := readProfiles()
	if err != nil {
		return nil, err
	}
	memory := map[string]int{}
	for _, version := range slices.Concat(table.order, slices.Collect(maps.Keys(overrides))) {
		if !strings.Contains(version, ".") {
			version += ".0" // there is no 8 that is not 8.0
		}
		if p, _, err := ProfileFor(version, overrides); err == nil { // else nothing uses it, such as one for 6
			memory[version] = p.MemoryMiB
		}
	}
	return memory, nil
}

func (p *Profile) override(o config.Profile) {
	for _, s := range []struct {
		value string
		to    *string
	}{
		{o.Machine, &p.Machine}, {o.NIC, &p.NIC}, {o.MAC, &p.MAC}, {o.DiskBus, &p.DiskBus},
		{o.KickstartMedium, &p.KickstartMedium}, {o.CPUModel, &p.CPUModel},
	} {
		if s.value != "" {
			*s.to = s.value
		}
	}
	if o.MemoryMiB != 0 {
		p.MemoryMiB = o.MemoryMiB
	}
	if o.CPUs != 0 {
		p.CPUs = o.CPUs
	}
	if o.KernelOptions != nil {
		p.KernelOptions = o.KernelOptions
	}
}

// BootOptions are the kernel options of a build: where the kickstart is, and
// the profile's.
func (p Profile) BootOptions() []string {
	return append([]string{"ks=" + p.KickstartMedium + ":/" + KickstartName}, p.KernelOptions...)
}

// KickstartName is the kickstart's name on its medium. The installer compares
// it with case, and long names on a CD are lost on it.
const KickstartName = "KS.CFG"

type profileTable struct {
	order    []string // versions as in the file: oldest first
	profiles map[string]Profile
	layouts  map[string][]Partition
}

func readProfiles() (profileTable, error) {
	t := profileTable{profiles: map[string]Profile{}}
	var raw map[string]toml.Primitive
	meta, err := toml.Decode(profilesTOML, &raw)
	if err != nil {
		return t, fmt.Errorf("cannot read the built-in profiles: %w", err)
	}
	for _, key := range meta.Keys() {
		if len(key) != 1 {
			continue
		}
		name := key[0]
		if name == "layout" {
			err = meta.PrimitiveDecode(raw[name], &t.layouts)
		} else {
			var p Profile
			err = meta.PrimitiveDecode(raw[name], &p)
			t.order, t.profiles[name] = append(t.order, name), p
		}
		if err != nil {
			return t, fmt.Errorf("cannot read the built-in profile %s: %w", name, err)
		}
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return t, fmt.Errorf("cannot read the built-in profiles: unknown key %s", unknown[0])
	}
	return t, nil
}

// longestMatch finds the key that is version or a dotted prefix of it.
func longestMatch[T any](version string, table map[string]T) (string, bool) {
	for parts := strings.Split(version, "."); len(parts) > 0; parts = slices.Delete(parts, len(parts)-1, len(parts)) {
		key := strings.Join(parts, ".")
		if _, ok := table[key]; ok {
			return key, true
		}
	}
	return "", false
}

func majorOf(version string) int {
	n := 0
	for _, r := range version {
		if r < '0' || r > '9' || n > 1000 {
			break
		}
		n = n*10 + int(r-'0')
	}
	return n
}
