package host

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim"
)

// TestBoot boots an installed disk twice in a virtual machine: the first time
// its %firstboot runs, with the real boot banks and disks, and reaches a server
// once the network allows it.
func TestBoot(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk.raw")
	const script = `
echo "first boot" >/altbootbank/seen
d=$(ls /vmfs/devices/disks/t10.ATA*_)
partedUtil fix $d
partedUtil add $d gpt "8 67110912 83886046 AA31E02A400F11DB9590000C2911D1B8 0"
vmkfstools -C vmfs6 -S datastore1 $d:8
fetch='import urllib.request; print(urllib.request.urlopen("http://maas.example:5248/", timeout=20).read())'
/bin/python -c "$fetch" 2>/dev/null && echo "reached without a network"
esxcli network ip interface remove -i vmk0
esxcli network ip interface add -i vmk0 -p "Management Network" -M a4:bf:01:4e:37:14
esxcli network ip interface tag add -i vmk0 -t Management
esxcli network ip interface ipv4 set -i vmk0 -t static -I 10.0.0.21 -N 255.255.255.0
esxcli network firewall ruleset set -r remoteSerialPort -e true
/bin/python -c "$fetch"
/sbin/auto-backup.sh
esxcli system hostname set --fqdn=lost.example
exit 3`
	if err := esxisim.WriteDisk(disk, esxisim.DiskOptions{
		Options: esxisim.Options{Version: "8.0.3", PayloadMiB: 1}, LayoutOptions: esxisim.LayoutOptions{MediaSize: "min"}, FirstBoot: []string{script},
	}); err != nil {
		t.Fatal(err)
	}
	const size = 40 << 30
	if err := os.Truncate(disk, size); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) })}
	go server.Serve(l)
	defer server.Close()
	machine := Boot{Disk: disk, Forwards: []Forward{{Address: "10.0.0.5:5248", Name: "maas.example", To: l.Addr().String()}}, Hardware: Hardware{
		Name: "booted", ESXi: "6.5", // what the disk says counts
		NICs: []NIC{{MAC: "a4:bf:01:4e:37:14"}},
		Disks: []Disk{
			{Linux: "sdb", Bus: "nvme", Model: "other", EUI: "001b448b4e519546", Size: 1 << 30},
			{Linux: "sda", Bus: "sata", Model: "QEMU HARDDISK", Serial: "QM00001", Size: size, Boot: true},
		},
	}}
	first, err := machine.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.Scripts, []BootScript{{Name: "001.firstboot", Exit: 3}}) {
		t.Errorf("scripts: %+v", first.Scripts)
	}
	if strings.Contains(first.Console, "reached without a network") || !strings.Contains(first.Console, "b'hello'") {
		t.Errorf("the server was reached too early or not at all:\n%s", first.Console)
	}
	if s := first.State; s.Version != "8.0.3" || s.Hostname != "lost" || s.Volume("datastore1") == nil || !s.Unsaved {
		t.Errorf("the host is %+v", s)
	}
	second, err := machine.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s := second.State; len(second.Scripts) != 0 || s.Hostname != "localhost" || s.Volume("datastore1") == nil ||
		s.Interface("vmk0").IPv4.Address != "10.0.0.21" || s.UUID != first.State.UUID {
		t.Errorf("after the next boot, with the scripts %v, the host is %+v", second.Scripts, s)
	}
}
