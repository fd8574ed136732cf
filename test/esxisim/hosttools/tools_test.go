package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

// newHost makes a host whose tools are called in this process.
func newHost(t *testing.T, hw host.Hardware) *host.Host {
	t.Helper()
	h, err := host.New(host.Options{Dir: filepath.Join(t.TempDir(), "host"), Tools: "/nowhere", Hardware: hw})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// standard is a machine for what does not depend on it.
func standard(version string) host.Hardware {
	return host.Hardware{
		Name: "standard", ESXi: version,
		NICs: []host.NIC{{MAC: "a4:bf:01:4e:37:14"}, {MAC: "a4:bf:01:4e:37:15"}, {MAC: "a4:bf:01:4e:37:16", MaxMTU: 1500}},
		Disks: []host.Disk{
			{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00001", Size: 64 << 30},
			{Linux: "nvme0n1", Bus: "nvme", Model: "WD_BLACK SN850X 4000GB", Serial: "23", EUI: "001b448b4e519546", Size: 4000787030016},
			{Linux: "sdb", Bus: "sas", Vendor: "SEAGATE", Model: "ST4000NM0023", Serial: "Z1Z", WWN: "5000c500b0009813", Size: 4000787030016, Rotating: true},
		},
	}
}

// The devices of standard, as partedUtil wants them.
const (
	bootDisk = "/vmfs/devices/disks/t10.ATA_____QEMU_HARDDISK___________________________QM00001_____________"
	nvmeDisk = "/vmfs/devices/disks/t10.NVMe____WD_BLACK_SN850X_4000GB__________________4695514E8B441B00"
	sasDisk  = "/vmfs/devices/disks/naa.5000c500b0009813"
)

var names = strings.NewReplacer("BOOT", bootDisk, "NVME", nvmeDisk, "SAS", sasDisk)

// call runs a tool with the words of the line as its arguments; those in "..."
// keep their blanks.
func call(t *testing.T, h *host.Host, line, input string) (exit int, output string) {
	t.Helper()
	var out bytes.Buffer
	exit, err := run(h.Dir, words(names.Replace(line)), strings.NewReader(input), &out)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return exit, out.String()
}

// must runs tools that work, and returns all they print.
func must(t *testing.T, h *host.Host, lines ...string) (output string) {
	t.Helper()
	for _, line := range lines {
		line, input, _ := strings.Cut(line, " <<< ")
		exit, out := call(t, h, line, strings.ReplaceAll(input, "|", "\n"))
		if exit != 0 {
			t.Fatalf("%s: exit status %d\n%s", line, exit, out)
		}
		output += out
	}
	return output
}

func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, `"`) {
		switch {
		case i%2 == 0:
			all = append(all, strings.Fields(part)...)
		case len(all) > 0 && strings.HasSuffix(all[len(all)-1], "="):
			all[len(all)-1] += part
		default:
			all = append(all, part)
		}
	}
	return all
}

func state(t *testing.T, h *host.Host) *host.State {
	t.Helper()
	s, err := h.State()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
