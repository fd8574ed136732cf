package firstboot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/esxisim/host"
)

// These tests are named after what went wrong with the datastores of ESXi hosts
// that MAAS deployed with other tools. Each says what happens instead.

// datastores are the host's VMFS-6 volumes: by name, the partitions with Linux's
// names of the disks, the head first.
func (d *deployment) datastores() map[string]string {
	d.t.Helper()
	s, found := d.state(), map[string]string{}
	for _, v := range s.Volumes {
		if v.Type == "VMFS-6" && !v.Unmounted {
			found[v.Label] = strings.Join(extents(s, v), " ")
		}
	}
	return found
}

func (d *deployment) wantDatastores(want map[string]string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.datastores()); diff != "" {
		d.t.Errorf("datastores: -want +got\n%s\n%s", diff, d.log())
	}
}

// watchSystem remembers the partitions the host has before its first boot; what
// it returns checks that all of them are as they were.
func (d *deployment) watchSystem() func() {
	var before []host.DiskState
	prepare := d.prepare
	d.prepare = func(h *host.Host) error {
		s, err := h.State()
		if err != nil {
			return err
		}
		before = s.Disks
		if prepare != nil {
			return prepare(h)
		}
		return nil
	}
	return func() {
		d.t.Helper()
		for i, disk := range d.state().Disks {
			for _, p := range before[i].Table.Partitions {
				if q := disk.Table.Find(p.Number); q == nil || *q != p {
					d.t.Errorf("partition %d of %s was %+v and is %+v", p.Number, disk.Linux, p, q)
				}
			}
		}
	}
}

func TestSASDisksAndRAIDVolumesAreMatched(t *testing.T) {
	t.Parallel()
	d := start(t, "sas-disks", "7.0.3")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "sda:8", "slow": "sdb:1", "slower": "sdc:1"})
	d = start(t, "raid-volumes", "6.7")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "sda:3", "raid6": "sdb:1"})
}

func TestSmallLettersInTheNameOfAnATADisk(t *testing.T) {
	t.Parallel()
	d := start(t, "ata-samsung-seagate", "8.0.3")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "sda:8", "seagate": "sdb:1", "wd": "sdc:1"})
}

func TestNoBootDiskMatchedAndNoDatastoreAskedFor(t *testing.T) {
	t.Parallel()
	d := start(t, "disks-without-serials", "8.0.3")
	d.linux = func(l *host.LinuxDisk) {
		if l.Name == "sda" {
			l.Size = 64 << 30 // another disk than the one that ESXi runs from
		}
	}
	d.run()
	d.failed("but the image was written to sda with 68719476736")
	d.oldNetwork()
	d.wantDatastores(map[string]string{})
}

func TestTenNVMeDrivesInAnotherOrder(t *testing.T) {
	t.Parallel()
	d := start(t, "nvme-ten-drives", "9.0")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{
		"datastore1": "nvme0n1:8", "fast-a": "nvme1n1:1 nvme2n1:1 nvme3n1:1 nvme4n1:1", "fast-b": "nvme5n1:1 nvme6n1:1 nvme7n1:1 nvme8n1:1 nvme9n1:1",
	})
}

func TestDiskEntriesWithoutModelAndSerial(t *testing.T) {
	t.Parallel()
	d := start(t, "g-nvme-two-disks-no-serial", "8.0.3")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "nvme0n1:8 nvme1n1:1"})
}

func TestPartitionEightOfTheVMFS7LayoutIsMade(t *testing.T) {
	t.Parallel()
	d := start(t, "b-bond-vlans-static", "7.0.3")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "sda:8"})
}

func TestPartitionThreeIsTakenOnESXi7Too(t *testing.T) {
	t.Parallel()
	d := start(t, "c-vmfs6-extra-disks", "8.0.3")
	system := d.watchSystem()
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "sda:3 sdb:1", "datastore2": "sdc:1"})
	system()
}

func TestReservedPartitionsOfESXi65ArePreserved(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"c-vmfs6-extra-disks", "d-flat-default", "b-bond-vlans-static"} {
		d := start(t, name, "6.5")
		system := d.watchSystem()
		d.run()
		system()
		if name == "b-bond-vlans-static" { // a layout for ESXi 7
			d.failed("is ESXi 6.5.0's own")
		} else {
			d.deployed()
		}
	}
}

// other is a disk that MAAS's layout does not have, with a volume on it.
var other = host.Disk{
	Linux: "sdz", Bus: "sata", Model: "INTEL SSDSC2KB240G8", Serial: "OTHER", Size: 100 << 30,
	Partitions: []host.Partition{{Number: 1, First: 2048, Last: 209715166, Type: esxisim.TypeVMFS}}, Datastore: "precious",
}

func TestOtherFileSystemsStayMounted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"d-flat-default", "c-vmfs6-extra-disks"} {
		d := start(t, name, "7.0.3")
		d.hardware.Disks[0].Boot = name == "d-flat-default"
		d.hardware.Disks = append(d.hardware.Disks, other)
		system := d.watchSystem()
		d.run()
		d.deployed()
		system()
		if got := d.datastores(); got["precious"] != "sdz:1" || got["datastore1"] == "" {
			t.Errorf("the datastores are %v", got)
		}
	}
}

func TestNothingIsWipedIfADiskIsNotMatched(t *testing.T) {
	t.Parallel()
	d := start(t, "c-vmfs6-extra-disks", "6.7")
	old := []host.Partition{{Number: 1, First: 2048, Last: 4194303, Type: esxisim.TypeFAT}}
	for i := range d.hardware.Disks {
		if !d.hardware.Disks[i].Boot {
			d.hardware.Disks[i].Partitions = old
		}
	}
	d.linux = func(l *host.LinuxDisk) {
		if l.Name == "sdc" {
			l.Serial = "ZC999999"
		}
	}
	system := d.watchSystem()
	d.run()
	d.failed("cannot tell which disk of this host is sdc (serial 'ZC999999')")
	d.oldNetwork()
	d.wantDatastores(map[string]string{})
	system()
}

func TestAmbiguousDiskIsNotWiped(t *testing.T) {
	t.Parallel()
	d := start(t, "c-vmfs6-extra-disks", "6.7")
	d.linux = func(l *host.LinuxDisk) {
		if l.Name == "sdc" {
			l.Serial = "ZC100001" // that of sdb
		}
	}
	d.run()
	d.failed("fit each other")
	d.oldNetwork()
	d.wantDatastores(map[string]string{})
}

func TestDiskWithAVolumeIsNotWiped(t *testing.T) {
	t.Parallel()
	d := start(t, "c2-vmfs7-bios-extra-disk", "8.0.3")
	sdb := &d.hardware.Disks[1]
	sdb.Partitions, sdb.Datastore = other.Partitions, "precious"
	d.run()
	d.failed("holds the volume precious, which is not wiped")
	d.oldNetwork()
	d.wantDatastores(map[string]string{"precious": "sdb:1"})
}

func TestWipingClearsBothCopiesOfTheTable(t *testing.T) {
	t.Parallel()
	d := start(t, "c2-vmfs7-bios-extra-disk", "7.0.3")
	sdb := &d.hardware.Disks[1]
	sdb.Image = filepath.Join(t.TempDir(), "sdb.raw")
	d.ok(os.WriteFile(sdb.Image, nil, 0o644))
	d.ok(os.Truncate(sdb.Image, sdb.Size))
	sgdisk := func(args ...string) string {
		out, err := exec.Command("sgdisk", append(args, sdb.Image)...).CombinedOutput()
		if err != nil {
			t.Fatalf("sgdisk %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	sgdisk("-n", "1:2048:+1G", "-n", "5:0:0", "-c", "5:an-old-system")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "sda:8", "scratch-ds": "sdb:2"})
	if report := sgdisk("-v"); !strings.Contains(report, "No problems found") {
		t.Errorf("sgdisk finds: %s", report)
	}
	if list := sgdisk("-p"); strings.Contains(list, "an-old-system") || !strings.Contains(list, "   2            2048 ") {
		t.Errorf("the partitions are\n%s", list)
	}
}

func TestDefaultDatastoreIsOnTheBootDisk(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"6.7", "9.0"} {
		d := start(t, "d-flat-default", version)
		boot := d.hardware.Disks[0]
		boot.Boot = true
		d.hardware.Disks = []host.Disk{
			{Linux: "sdb", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00002", Size: boot.Size}, boot,
			{Linux: "nvme0n1", Bus: "nvme", Model: "X", EUI: "5cd2e42a81a50002", Size: boot.Size},
		}
		d.run()
		d.deployed()
		number := 8
		if version == "6.7" {
			number = 3
		}
		d.wantDatastores(map[string]string{"datastore1": fmt.Sprintf("sda:%d", number)})
	}
}

func TestFirstExtentIsOnTheBootDisk(t *testing.T) {
	t.Parallel()
	d := start(t, "boot-disk-last", "6.7")
	d.run()
	d.deployed()
	d.wantDatastores(map[string]string{"datastore1": "sdc:3 sda:1 sdb:2"})
}

func TestDatastoreHasAllOfTheDisk(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		d := start(t, "jumbo-frames", version) // of its configuration only the flat layout matters
		d.run()
		d.deployed()
		s := d.state()
		v := s.Volume("datastore1")
		if v == nil {
			t.Fatalf("ESXi %s: no datastore1", version)
		}
		system := int64(15472640 * esxisim.Sector)
		if !strings.HasPrefix(version, "6.") {
			system = 32 << 30
		}
		const rounding = 1 << 29
		if missing := d.hardware.Disks[0].Size - system - v.Size; missing < 0 || missing > rounding {
			t.Errorf("ESXi %s: datastore1 has %d bytes, %d too few", version, v.Size, missing)
		}
	}
}

func TestDatastoreOfTheImageIsExtended(t *testing.T) {
	t.Parallel()
	d := start(t, "d-flat-default", "8.0.3")
	boot := &d.hardware.Disks[0]
	boot.Size = 230 << 30
	boot.Partitions = []host.Partition{{Number: 8, First: 67110880, Last: 119538654, Type: esxisim.TypeVMFS}} // 25 GiB
	boot.Datastore = "datastore1"
	d.run()
	d.deployed()
	if v := d.state().Volume("datastore1"); v.Size < 197<<30 {
		t.Errorf("datastore1 has %d bytes of a disk of 230 GiB", v.Size)
	}
	before := d.state()
	d.boot()
	d.deployed()
	if after := d.state(); !reflect.DeepEqual(before.Volumes, after.Volumes) || !reflect.DeepEqual(before.Disks, after.Disks) {
		t.Errorf("a second run made of the volumes %+v %+v", before.Volumes, after.Volumes)
	}
}

// A run that fails at any step, and the next one that finishes what it began.
func TestSecondRunAfterAnInterruptedFirst(t *testing.T) {
	t.Parallel()
	for _, fault := range []host.Fault{
		{Command: "partedUtil mklabel", Skip: 1}, {Command: "partedUtil add"}, {Command: "partedUtil add", Skip: 2},
		{Command: "vmkfstools -C"}, {Command: "vmkfstools -Z"}, {Command: "vmkfstools -C", Skip: 1},
	} {
		d := start(t, "c-vmfs6-extra-disks", "6.7")
		fault.Times, fault.Text = 1, "Error: Input/output error"
		d.hardware.Faults = []host.Fault{fault}
		system := d.watchSystem()
		d.run()
		d.failed("Input/output error")
		d.boot()
		d.deployed()
		d.wantDatastores(map[string]string{"datastore1": "sda:3 sdb:1", "datastore2": "sdc:1"})
		system()
		before := d.state()
		d.boot()
		d.deployed()
		if after := d.state(); !reflect.DeepEqual(before.Volumes, after.Volumes) || !reflect.DeepEqual(before.Disks, after.Disks) {
			t.Errorf("after %q a third run changed the volumes %+v to %+v", fault.Command, before.Volumes, after.Volumes)
		}
	}
}
