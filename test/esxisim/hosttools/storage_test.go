package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/esxisim/host"
)

func TestDatastores(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h,
		`partedUtil add BOOT gpt "8 67110912 100000000 AA31E02A400F11DB9590000C2911D1B8 0"`,
		`vmkfstools -C vmfs6 -S "my datastore" BOOT:8`,
		"partedUtil mklabel SAS gpt",
		`partedUtil add SAS gpt "1 2048 7814037134 AA31E02A400F11DB9590000C2911D1B8 0"`,
		"vmkfstools -Z SAS:1 BOOT:8 <<< 0|",
		"partedUtil mklabel NVME gpt",
		`partedUtil add NVME gpt "2 2048 7814037134 AA31E02A400F11DB9590000C2911D1B8 0"`,
		`vmkfstools -C vmfs6 -S "my datastore" NVME:2`,
	)
	s := state(t, h)
	if v := s.Volume("my datastore"); v == nil || len(v.Extents) != 2 || v.Size != (32889089*512>>28+7814035087*512>>28)<<28 {
		t.Errorf("the volume is %+v", v)
	}
	if s.Volume("my datastore (1)") == nil {
		t.Error("two volumes have the same label")
	}
	list := must(t, h, "esxcli storage vmfs extent list")
	for _, want := range []string{"my datastore      ", "              1  naa.5000c500b0009813"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	before := s.Volume("my datastore").Size
	must(t, h, "partedUtil resize BOOT 8 67110912 134217694", "vmkfstools --growfs BOOT:8 BOOT:8")
	if v := state(t, h).Volume("my datastore"); v.Size <= before || v.Extents[0].Sectors != 134217694-67110912+1 {
		t.Errorf("the grown volume is %+v", v)
	}
	if _, err := os.Stat(h.Path("/vmfs/volumes/my datastore")); err != nil {
		t.Error(err)
	}
	must(t, h, `esxcli storage filesystem unmount -l "my datastore (1)"`, "partedUtil delete NVME 2")
	if _, err := os.Lstat(h.Path("/vmfs/volumes/my datastore (1)")); err == nil {
		t.Error("an unmounted volume is still there")
	}
}

// TestDiskFile: the table of a disk with a file is the file's, and one that
// Linux's tools accept.
func TestDiskFile(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk.raw")
	if err := esxisim.WriteDisk(image, esxisim.DiskOptions{
		Options: esxisim.Options{Version: "7.0.3", PayloadMiB: 1}, LayoutOptions: esxisim.LayoutOptions{MediaSize: "min"},
	}); err != nil {
		t.Fatal(err)
	}
	const size = 64 << 30
	if err := os.Truncate(image, size); err != nil { // as on a larger disk
		t.Fatal(err)
	}
	h := newHost(t, host.Hardware{Name: "image", ESXi: "7.0.3", Disks: []host.Disk{{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00001", Size: size, Image: image}}})
	before := must(t, h, "partedUtil getptbl BOOT")
	if !strings.HasPrefix(before, "Error: The backup GPT table is not at the end of the disk") || !strings.Contains(before, "AlternateLBA (67108863)") {
		t.Errorf("it does not see where the backup is:\n%s", before)
	}
	if got := must(t, h, "partedUtil getUsableSectors BOOT"); got != "34 67108830\n" {
		t.Errorf("usable sectors: %s", got)
	}
	must(t, h, "partedUtil fix BOOT")
	if got := must(t, h, "partedUtil getUsableSectors BOOT"); got != "34 134217694\n" {
		t.Errorf("usable sectors: %s", got)
	}
	must(t, h, `partedUtil add BOOT gpt "8 67110912 134217694 AA31E02A400F11DB9590000C2911D1B8 0"`, "vmkfstools -C vmfs6 -S datastore1 BOOT:8")
	want := strings.SplitAfterN(before, "\n", 2)[1] + "8 67110912 134217694 AA31E02A400F11DB9590000C2911D1B8 vmfs 0\n"
	if got := must(t, h, "partedUtil getptbl BOOT"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	out, err := exec.Command("sgdisk", "-v", image).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk: %v\n%s", err, out)
	}
	// Another boot finds the volume on the disk.
	again := newHost(t, h.Hardware())
	if v := state(t, again).Volume("datastore1"); v == nil || v.Extents[0].Partition != 8 {
		t.Errorf("the volumes are %+v", state(t, again).Volumes)
	}
	if !reflect.DeepEqual(state(t, h).Disks, state(t, again).Disks) {
		t.Error("the table is another one after the next boot")
	}
}

func TestVMLNames(t *testing.T) {
	h := newHost(t, standard("8.0.3"))
	must(t, h, "partedUtil getptbl /vmfs/devices/disks/vml.0100000000514d30303030312020202020202020202020202051454d552048",
		"partedUtil getptbl /dev/disks/naa.5000c500b0009813", "esxcli storage core device list -d naa.5000c500b0009813")
	if _, err := os.Stat(h.Path("/vmfs/devices/disks/naa.5000c500b0009813")); err != nil {
		t.Error(err)
	}
}
