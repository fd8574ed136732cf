package host

import (
	"context"
	"path/filepath"
	"testing"
)

func TestFirstBoot(t *testing.T) {
	tools, err := BuildTools(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{Dir: filepath.Join(t.TempDir(), "host"), Tools: tools, Hardware: Hardware{
		Name: "x", ESXi: "8.0.3", NICs: []NIC{{MAC: "a4:bf:01:4e:37:14"}}, Disks: []Disk{{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00001", Size: 64 << 30}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.FirstBoot(t.Context(), []byte(`
esxcli network nic list
/bin/python -B -c 'import json, ssl, urllib.request, os; print(os.listdir("/"))'
/sbin/auto-backup.sh
/etc/init.d/SSH start
echo hello >/dev/console
esxcli system hostname set --fqdn h.example
ls /vmfs/volumes /dev/disks/ /usr | head -30
`))
	t.Log(out, err)
	s, err := h.State()
	t.Log(s.Hostname, err, h.Check())
}
