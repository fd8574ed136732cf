package firstboot

import "testing"

func TestUnknownMACLeavesTheOldNetwork(t *testing.T) {
	t.Parallel()
	d := start(t, "b-bond-vlans-static", "7.0.3")
	d.hardware.NICs[1].MAC = "02:00:5e:99:00:01"
	d.run()
	d.failed("no network interfaces have the MAC address 02:00:5e:20:00:02")
	d.oldNetwork()
}
