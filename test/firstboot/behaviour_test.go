package firstboot

import (
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

func TestUnknownMACLeavesTheOldNetwork(t *testing.T) {
	t.Parallel()
	d := start(t, "b-bond-vlans-static", "7.0.3")
	d.hardware.NICs[1].MAC = "02:00:5e:99:00:01"
	d.run()
	d.failed("no network interfaces have the MAC address 02:00:5e:20:00:02")
	d.oldNetwork()
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
	if disks := d.state().Disks; len(disks[0].Table.Partitions)+len(disks[2].Table.Partitions) != 0 {
		t.Errorf("there are partitions: %+v", disks)
	}
}
