package esxisim

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func writeDisk(t *testing.T, o DiskOptions) (path string, parts map[int]Partition) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk.raw")
	if err := WriteDisk(path, o); err != nil {
		t.Fatal(err)
	}
	layout, err := Layout(o.Version, max(o.Size, 32<<30), o.LayoutOptions)
	if err != nil {
		t.Fatal(err)
	}
	parts = map[int]Partition{}
	for _, p := range layout {
		parts[p.Number] = p
	}
	return path, parts
}

func TestWriteDisk(t *testing.T) {
	for _, c := range []struct{ version, kernelopt string }{
		{"6.5", "kernelopt=installerDiskDumpSlotSize=2560 no-auto-partition\n"},
		{"6.7", "kernelopt=installerDiskDumpSlotSize=2560 no-auto-partition\n"},
		{"7.0.3", "kernelopt=autoPartition=FALSE\n"},
		{"9.0", "kernelopt=autoPartition=FALSE\n"},
	} {
		o := DiskOptions{Options: Options{Version: c.version, PayloadMiB: 4}, RootHash: "$6$salt$hash", FirstBoot: []string{"#!/bin/sh\necho once\n"}}
		path, parts := writeDisk(t, o)
		if out := tool(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
			t.Errorf("%s: sgdisk -v:\n%s", c.version, out)
		}
		for _, p := range parts {
			if p.Type != TypeESP && p.Type != TypeFAT {
				continue
			}
			if out := tool(t, "fsck.vfat", "-n", extract(t, path, p)); strings.Contains(out, "irty") || strings.Contains(out, "ifference") {
				t.Errorf("%s, partition %d: %s", c.version, p.Number, out)
			}
		}
		bank := fmt.Sprintf("%s@@%d", path, parts[5].First*Sector)
		config := tool(t, "mtype", "-i", bank, "::boot.cfg")
		boot, err := ParseBootConfig(config)
		if err != nil || !strings.Contains(config, c.kernelopt) || !strings.Contains(config, "bootstate=0\n") || !strings.Contains(config, "updated=1\n") {
			t.Errorf("%s: boot.cfg: %v\n%s", c.version, err, config)
		}
		list := tool(t, "mdir", "-b", "-i", bank, "::")
		for _, name := range append(boot.Modules, boot.Kernel) {
			if !strings.Contains(list, "::/"+name+"\n") {
				t.Errorf("%s: %s of boot.cfg is not in the bank", c.version, name)
			}
		}
		if other := tool(t, "mtype", "-i", fmt.Sprintf("%s@@%d", path, parts[6].First*Sector), "::boot.cfg"); !strings.Contains(other, "bootstate=3\n") {
			t.Errorf("%s: boot.cfg of the other bank:\n%s", c.version, other)
		}
		tool(t, "mtype", "-i", fmt.Sprintf("%s@@%d", path, parts[1].First*Sector), "::EFI/BOOT/BOOTX64.EFI")

		state := untar(t, []byte(tool(t, "mtype", "-i", bank, "::state.tgz")))
		local := untar(t, state["local.tgz"])
		if got := string(local["etc/shadow"]); !strings.HasPrefix(got, "root:$6$salt$hash:") {
			t.Errorf("%s: shadow: %q", c.version, got)
		}
		if got := string(local["etc/vmware/esx.conf"]); !strings.Contains(got, `/system/uuid = "`) || !strings.Contains(got, `mac = "52:54:00:12:34:56"`) {
			t.Errorf("%s: esx.conf: %q", c.version, got)
		}
		scripts := untar(t, []byte(tool(t, "mtype", "-i", bank, "::onetime.tgz")))
		if got := string(scripts["var/lib/vmware/firstboot/001.firstboot"]); got != o.FirstBoot[0] {
			t.Errorf("%s: %%firstboot: %q", c.version, got)
		}
	}
}

// extract copies what is written of a partition into a sparse file of its own.
func extract(t *testing.T, disk string, p Partition) string {
	t.Helper()
	in, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "partition"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate((p.Last - p.First + 1) * Sector); err != nil {
		t.Fatal(err)
	}
	start, end := p.First*Sector, (p.Last+1)*Sector
	for at := start; ; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO || data >= end {
			return out.Name()
		}
		if err != nil {
			t.Fatal(err)
		}
		hole, err := unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		hole = min(hole, end)
		if _, err := io.Copy(io.NewOffsetWriter(out, data-start), io.NewSectionReader(in, data, hole-data)); err != nil {
			t.Fatal(err)
		}
		at = hole
	}
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// The table of a 32 GiB disk, byte for byte what sgdisk -p printed for a disk
// laid out with the published sectors.
func TestTableAsSgdiskPrintsIt(t *testing.T) {
	path, _ := writeDisk(t, DiskOptions{Options: Options{Version: "8.0.3", PayloadMiB: 1}, LayoutOptions: LayoutOptions{MediaSize: "min"}})
	want, err := os.ReadFile("testdata/sgdisk_p.7plus-min-32GiB.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := func(text string) []string {
		return slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"), func(line string) bool {
			return strings.HasPrefix(line, "Disk ") // path and identity
		})
	}
	if got := tool(t, "sgdisk", "-p", path); !slices.Equal(lines(got), lines(string(want))) {
		t.Errorf("sgdisk -p:\n%s\nwant\n%s", got, want)
	}
}

func TestDiskFollowsFromOptions(t *testing.T) {
	sum := func(o DiskOptions) string {
		path, _ := writeDisk(t, o)
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		h := sha256.New()
		if _, err := io.Copy(h, io.LimitReader(file, 128<<20)); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	o := DiskOptions{Options: Options{Version: "6.7", PayloadMiB: 1}}
	first := sum(o)
	if sum(o) != first {
		t.Error("the same options gave two different disks")
	}
	o.OEM = "hpe"
	if sum(o) == first {
		t.Error("two releases gave the same disk")
	}
}

func TestHasVMFS(t *testing.T) {
	for version, want := range map[string]bool{"6.7": true, "8.0.3": false} {
		path, _ := writeDisk(t, DiskOptions{Options: Options{Version: version, PayloadMiB: 1}})
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if got, err := HasVMFS(file); got != want || err != nil {
			t.Errorf("%s: HasVMFS = %v, %v; want %v", version, got, err, want)
		}
	}
	if got, err := HasVMFS(bytes.NewReader(make([]byte, 64<<10))); got || err != nil {
		t.Errorf("empty disk: HasVMFS = %v, %v", got, err)
	}
}
