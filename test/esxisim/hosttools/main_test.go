package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/esxisim/host"
)

// newHost makes a host whose tools are called in this process.
func newHost(t *testing.T, hw host.Hardware) *host.Host {
	t.Helper()
	h, err := host.New(host.Options{Dir: filepath.Join(t.TempDir(), "host"), Tools: "/nowhere", Hardware: hw})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// call runs a tool; the words of the line are its arguments, "..." keeps blanks.
func call(t *testing.T, h *host.Host, line, input string) (exit int, output string) {
	t.Helper()
	var out bytes.Buffer
	exit, err := run(h.Dir, words(line), strings.NewReader(input), &out)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return exit, out.String()
}

// must runs a tool that works.
func must(t *testing.T, h *host.Host, lines ...string) (output string) {
	t.Helper()
	for _, line := range lines {
		exit, out := call(t, h, line, "")
		if exit != 0 {
			t.Fatalf("%s: exit status %d\n%s", line, exit, out)
		}
		output += out
	}
	return output
}

func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, `"`) {
		switch {
		case i%2 == 0:
			all = append(all, strings.Fields(part)...)
		case len(all) > 0 && strings.HasSuffix(all[len(all)-1], "="):
			all[len(all)-1] += part
		default:
			all = append(all, part)
		}
	}
	return all
}

func TestSmoke(t *testing.T) {
	for _, version := range []string{"6.5", "6.7", "7.0.3", "8.0.3", "9.0"} {
		h := newHost(t, host.Hardware{
			Name: "smoke", ESXi: version,
			NICs: []host.NIC{{MAC: "a4:bf:01:4e:37:14"}, {MAC: "a4:bf:01:4e:37:15", Down: true}},
			Disks: []host.Disk{
				{Linux: "sda", Bus: "sata", Model: "ST20000NM007D-3DJ103", Serial: "ZVTBWXYS", SerialRight: true, Size: 64 << 30},
				{Linux: "nvme0n1", Bus: "nvme", Model: "WD_BLACK SN850X 4000GB", Serial: "23", EUI: "001b448b4e519546", Size: 4e12 / 512 * 512},
				{Linux: "sdb", Bus: "usb", Model: "Silicon-Power16G", Vendor: "UFD 2.0", Size: 16 << 30},
			},
		})
		out := ""
		for _, line := range strings.Split(`esxcli system version get
esxcli network nic list
esxcli network vswitch standard list
esxcli network vswitch standard portgroup list
esxcli network ip interface list
esxcli network ip interface ipv4 get
esxcli network ip interface ipv6 address list
esxcli network ip route ipv4 list
esxcli network ip dns server list
esxcli network firewall get
esxcli network firewall ruleset list
esxcli storage core device list
esxcli storage core path list
esxcli storage core device capacity list
esxcli storage filesystem list
esxcli storage vmfs extent list
esxcli nvme device list
esxcli nvme device get -A vmhba1
esxcli system hostname get
esxcli system uuid get
esxcli system settings advanced list -o /Net/FollowHardwareMac
esxcli system account list
vmware -vl
vim-cmd hostsvc/runtimeinfo
esxcfg-scsidevs -l
partedUtil getptbl /vmfs/devices/disks/t10.ATA_____ST20000NM007D2D3DJ103________________________________ZVTBWXYS`, "\n") {
			out += "# " + line + "\n" + must(t, h, line)
		}
		if os.Getenv("SHOW") == version {
			t.Log(out)
		}
	}
}
