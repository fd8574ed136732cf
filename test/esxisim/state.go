package esxisim

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// state is state.tgz, where ESXi keeps /etc over a reboot: a compressed tar
// with a compressed tar in it.
func (i *Installation) state() ([]byte, error) {
	uuid, err := i.systemUUID()
	if err != nil {
		return nil, err
	}
	local, err := tarball([]tarFile{
		{"etc/shadow", 0o400, "root:" + i.RootHash + ":13358:0:99999:7:::\n"},
		{"etc/vmware/esx.conf", 0o644, strings.Join([]string{
			`/system/uuid = "` + uuid + `"`,
			`/net/vmkernelnic/child[0000]/name = "vmk0"`,
			`/net/vmkernelnic/child[0000]/mac = "` + i.MAC + `"`,
			`/net/vmkernelnic/child[0000]/portgroup = "Management Network"`,
			`/net/vswitch/child[0000]/name = "vSwitch0"`,
			`/net/vswitch/child[0000]/uplinks/child[0000]/pnic = "vmnic0"`, "",
		}, "\n")},
	})
	if err != nil {
		return nil, err
	}
	return tarball([]tarFile{{"local.tgz", 0o600, string(local)}})
}

// oneTime is onetime.tgz: what runs at the first boot only.
func (i *Installation) oneTime() ([]byte, error) {
	var files []tarFile
	for n, body := range i.FirstBoot {
		files = append(files, tarFile{fmt.Sprintf("var/lib/vmware/firstboot/%03d.firstboot", n+1), 0o755, body})
	}
	return tarball(files)
}

// systemUUID ends with the MAC, as ESXi's does.
func (i *Installation) systemUUID() (string, error) {
	b := make([]byte, 10)
	if _, err := io.ReadFull(i.Random, b); err != nil {
		return "", err
	}
	h := hex.EncodeToString(b)
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], strings.ReplaceAll(i.MAC, ":", "")), nil
}

type tarFile struct {
	name string
	mode int64
	text string
}

func tarball(files []tarFile) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Format: tar.FormatGNU, Name: f.name, Mode: f.mode, Size: int64(len(f.text)), Uname: "root", Gname: "root"}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(t, f.text); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
