package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeFiles makes the host's files, as far as first-boot scripts look at them.
func (m *Machine) writeFiles() error {
	for _, dir := range []string{
		"altbootbank", "bootbank", "dev", "etc/init.d", "etc/rc.local.d", "etc/ssh/keys-root", "etc/vmware/firewall", "etc/vmware/ssl",
		"productLocker", "scratch/log", "store", "tmp", "var/log", "var/run/log", "vmfs/devices/disks", "vmfs/volumes",
	} {
		if err := os.MkdirAll(m.Path(dir), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"dev/console":             "",
		"etc/hosts":               "127.0.0.1\tlocalhost.localdomain localhost\n::1\t\tlocalhost.localdomain localhost\n",
		"etc/resolv.conf":         "",
		"etc/rc.local.d/local.sh": "#!/bin/sh\n# local configuration options\n\nexit 0\n",
		"etc/ssh/sshd_config":     "Protocol 2\nPermitRootLogin yes\nAuthorizedKeysFile /etc/ssh/keys-%u/authorized_keys\n",
		"etc/vmware/esx.conf":     fmt.Sprintf("/system/uuid = %q\n/net/vmkernelnic/child[0000]/name = \"vmk0\"\n/net/vmkernelnic/child[0000]/mac = %q\n", m.State.UUID, buildMAC),
		"etc/vmware/config":       "libdir = \"/usr/lib/vmware\"\n",
		"bootbank/boot.cfg":       m.bootConfig(1),
		"altbootbank/boot.cfg":    m.bootConfig(0),
	}
	if !m.AtLeast(7) {
		files["etc/ntp.conf"] = "restrict default nomodify notrap nopeer noquery\nrestrict 127.0.0.1\ndriftfile /etc/ntp.drift\n"
	}
	for name, text := range files {
		if err := os.WriteFile(m.Path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink("/vmfs/devices/disks", m.Path("dev/disks")); err != nil {
		return err
	}
	if err := m.WriteCertificate(); err != nil {
		return err
	}
	if err := m.linkDisks(); err != nil {
		return err
	}
	return m.linkVolumes()
}

func (m *Machine) bootConfig(updated int) string {
	state := 0
	if updated == 0 {
		state = 3
	}
	return fmt.Sprintf("bootstate=%d\ntitle=Loading VMware ESXi\ntimeout=5\nprefix=\nkernel=b.b00\nkernelopt=\nmodules=jumpstrt.gz\nbuild=%s\nupdated=%d\n",
		state, m.Release.BootBuild(), updated)
}

// linkDisks shows the disks and their partitions in /vmfs/devices/disks.
func (m *Machine) linkDisks() error {
	dir := m.Path("vmfs/devices/disks")
	want := map[string]string{}
	for i := range m.Devices {
		d := &m.Devices[i]
		t, err := m.Table(d)
		if err != nil {
			return err
		}
		want[d.Name], want[d.VML()] = "", d.Name
		for _, p := range t.Partitions {
			want[fmt.Sprintf("%s:%d", d.Name, p.Number)] = ""
			want[fmt.Sprintf("%s:%d", d.VML(), p.Number)] = fmt.Sprintf("%s:%d", d.Name, p.Number)
		}
	}
	return linkAll(dir, want)
}

// linkVolumes shows the mounted volumes in /vmfs/volumes: a directory by UUID,
// and a link by label.
func (m *Machine) linkVolumes() error {
	dir := m.Path("vmfs/volumes")
	want := map[string]string{}
	for _, v := range m.State.Volumes {
		if v.Unmounted {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, v.UUID), 0o755); err != nil {
			return err
		}
		if v.Label != "" && !strings.Contains(v.Label, "/") {
			want[v.Label] = v.UUID
		}
	}
	return linkAll(dir, want)
}

// linkAll makes a directory hold these links, and empty files where the target
// is "". Directories in it stay.
func linkAll(dir string, want map[string]string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		_, wanted := want[e.Name()]
		if wanted {
			there[e.Name()] = true
		} else if !e.IsDir() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for name, target := range want {
		path := filepath.Join(dir, name)
		switch {
		case there[name]:
		case target == "":
			err = os.WriteFile(path, nil, 0o600)
		default:
			err = os.Symlink(target, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// NTPServers are the servers of 6.x's /etc/ntp.conf.
func (m *Machine) NTPServers() []string {
	servers := []string{}
	text, err := os.ReadFile(m.Path("etc/ntp.conf"))
	if err != nil {
		return servers // removed: there are none
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "server" || f[0] == "pool") {
			servers = append(servers, f[1])
		}
	}
	return servers
}
