package esxisim

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fsck.vfat and mtools are the judges of the file systems.
func TestFATOfEverySize(t *testing.T) {
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i * i >> 7)
	}
	files := []Module{
		bytesModule("boot.cfg", []byte("kernel=b.b00\n")),
		bytesModule("EMPTY", nil),
		bytesModule("EFI/BOOT/BOOTX64.EFI", big),
		bytesModule("EFI/VMware/readme.TXT", []byte("mixed")),
	}
	for n := range 100 { // more than one cluster of directory entries
		files = append(files, bytesModule(fmt.Sprintf("many/file%d.v00", n), []byte{byte(n)}))
	}
	for _, c := range []struct {
		name             string
		sectors          int64
		perCluster, wide int // sectors per cluster, and clusters, as fsck counts them
	}{
		{"ESP of 6.x", 8128, 1, 8028},
		{"bank of 6.x", 511968, 8, 63929},
		{"locker of 6.x", 585696, 16, 36585},
		{"ESP", 204800, 4, 51091},
		{"bank on a small disk", 2097152, 32, 65518},
		{"bank", 8386560, 128, 65515},
	} {
		path := filepath.Join(t.TempDir(), "fat")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Truncate(c.sectors * Sector); err != nil {
			t.Fatal(err)
		}
		err = WriteFAT(file, 0, FAT{Sectors: c.sectors, Hidden: 64, Label: "BOOTBANK1", Serial: 1, Marker: make([]byte, 16)}, files)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		out := tool(t, "fsck.vfat", "-n", "-v", path)
		for _, want := range []string{
			fmt.Sprintf("%10d bytes per cluster\n", c.perCluster*Sector), fmt.Sprintf("/%d clusters\n", c.wide), "2 FATs, 16 bit entries", "109 files",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: fsck.vfat does not say %q:\n%s", c.name, want, out)
			}
		}
		if got := tool(t, "mtype", "-i", path, "::EFI/BOOT/BOOTX64.EFI"); got != string(big) {
			t.Errorf("%s: a large file came back changed", c.name)
		}
		if got := tool(t, "mdir", "-b", "-i", path, "::EFI/VMware"); got != "::/EFI/VMware/readme.TXT\n" && got != "::/EFI/VMWARE/readme.TXT\n" {
			t.Errorf("%s: names: %q", c.name, got)
		}
	}
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func TestFATRefusals(t *testing.T) {
	disk := make(memory, 8128*Sector)
	fat := FAT{Sectors: 8128}
	for name, files := range map[string][]Module{
		"is full":       {bytesModule("BIG", make([]byte, 4<<20))},
		"no 8.3 name":   {bytesModule("much-too-long.cfg", nil)},
		"is there":      {bytesModule("A/b", nil), bytesModule("A/B", nil)},
		"has 3 bytes, ": {{Name: "SHORT", Size: 4, Open: bytesModule("", []byte("abc")).Open}},
	} {
		if err := WriteFAT(disk, 0, fat, files); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
	for _, sectors := range []int64{100, 65525 * 128 * 2} {
		if err := WriteFAT(disk, 0, FAT{Sectors: sectors}, nil); err == nil {
			t.Errorf("a FAT16 of %d sectors was made", sectors)
		}
	}
}

func TestMarkerIsInTheSecondSector(t *testing.T) {
	disk := make(memory, 8128*Sector)
	id := []byte("0123456789abcdef")
	if err := WriteFAT(disk, 0, FAT{Sectors: 8128, Marker: id}, nil); err != nil {
		t.Fatal(err)
	}
	if second := disk[Sector : 2*Sector]; !bytes.HasPrefix(second, []byte("VMWARE FAT16")) || !bytes.Contains(second, id) {
		t.Errorf("second sector: %q", second[:32])
	}
}
