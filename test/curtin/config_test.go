package curtin

import (
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	c := sample(t, "c-vmfs6-extra-disks")
	if len(c.Disks) != 3 || c.Disks[0].Name != "sda" || c.Disks[2].Serial != "ZC100002" || !c.Disks[0].Boot || c.Disks[1].Boot {
		t.Fatalf("disks: %+v", c.Disks)
	}
	// MAAS's rule: what the partitions take, 5 MiB, rounded to 4 MiB.
	for i, real := range []int64{240057409536, 4000787030016, 4000787030016} {
		if d := c.Disks[i]; d.Size > real+8<<20 || d.Size < real-8<<20 {
			t.Errorf("%s: %d bytes, the machine's has %d", d.Name, d.Size, real)
		}
	}
}

func TestTarget(t *testing.T) {
	const disks = `{"storage": {"config": [
		{"type": "disk", "id": "b", "name": "sdb", "serial": "B", "wipe": "superblock"},
		{"type": "disk", "id": "a", "name": "sda", "path": "/dev/sda", "wipe": "superblock"},
		{"type": "disk", "id": "c", "name": "sdc", %s, "grub_device": true}]}}`
	tests := []struct{ boot, want string }{
		{`"serial": "C", "wipe": "superblock"`, "sdc"},
		{`"path": "/dev/sdc", "wipe": "superblock"`, "sda"}, // not the one MAAS means
	}
	for _, tt := range tests {
		c, err := ParseConfig([]byte(strings.Replace(disks, "%s", tt.boot, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := c.Target(); err != nil || d.Name != tt.want {
			t.Errorf("%s: the image goes to %q, %v; want %s", tt.boot, d.Name, err, tt.want)
		}
	}
	for _, bad := range []string{``, `{"storage": {"config": [{"type": "partition", "id": "x", "size": "1B", "device": "y"}]}}`} {
		if _, err := ParseConfig([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if c, err := ParseConfig([]byte(`{}`)); err != nil {
		t.Error(err)
	} else if d, err := c.Target(); err == nil {
		t.Errorf("a target without disks: %v", d)
	}
}
