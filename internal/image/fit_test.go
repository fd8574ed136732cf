package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The image of a disk of 64 MiB, on the smallest disk its partitions fit on and
// on larger ones: the table is valid, and sgdisk can put the backup behind it.
func TestFit(t *testing.T) {
	raw := newDisk(t, disk6Size, disk6)
	out, _ := pack(t, raw, PackOptions{Fit: true})
	got := gunzip(t, out)
	const smallest = (100447 + 1 + 33) * sectorSize
	before, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[2*sectorSize:], before[2*sectorSize:len(got)]) {
		t.Error("more than the first two sectors differ")
	}
	if plain, _ := pack(t, raw, PackOptions{}); !bytes.Equal(gunzip(t, plain), before[:len(got)]) {
		t.Error("without the option, or after it, the disk is not packed as it is")
	}
	for _, size := range []int64{smallest, smallest + sectorSize, disk6Size, 2 * disk6Size} {
		disk := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(disk, got[:min(int64(len(got)), size)], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(disk, size); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		table, err := ReadTable(f, size)
		if err != nil {
			t.Fatal(err)
		}
		if table.AlternateLBA != smallest/sectorSize-1 || table.LastUsable != 100447 || len(table.Partitions) != len(disk6) {
			t.Errorf("table %+v", table)
		}
		runTool(t, "sgdisk", "--move-second-header", disk)
		if out := runTool(t, "sgdisk", "--verify", disk); !strings.Contains(out, "No problems found") || strings.Contains(out, "aution") {
			t.Errorf("on a disk of %d bytes: %s", size, out)
		}
	}
}

// What leaves no room, or is no table, stays as it is.
func TestFitLeavesAlone(t *testing.T) {
	full := newDisk(t, 32*mib, []part{{1, 64, 32*mib/sectorSize - 34, typeESP, 16, 1}})
	for name, raw := range map[string]string{
		"full":          full,
		"no partitions": newDisk(t, 32*mib, nil),
		"no table":      newSparse(t, mib, map[int64][]byte{0: []byte("something")}),
		"one sector":    newSparse(t, 100, map[int64][]byte{0: []byte("something")}),
	} {
		plain, _ := pack(t, raw, PackOptions{})
		fit, _ := pack(t, raw, PackOptions{Fit: true})
		if !bytes.Equal(gunzip(t, plain), gunzip(t, fit)) {
			t.Errorf("%s: the disk was changed", name)
		}
	}
}
