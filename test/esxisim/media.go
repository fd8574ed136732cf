package esxisim

import (
	"archive/zip"
	"bytes"
	"fmt"

	"github.com/esxid/esxid/test/tinylinux"
)

// Where Debian's packages isolinux and syslinux-common put their files.
const (
	isolinuxDir = "/usr/lib/ISOLINUX"
	syslinuxDir = "/usr/lib/syslinux"
	gptBootCode = syslinuxDir + "/mbr/gptmbr.bin"
)

// efiFiles are the programs in EFI/BOOT, of the ISO and of an installed ESP.
func (r Release) efiFiles() []Module {
	names := []string{"BOOTX64.EFI", "SAFEBOOT.EFI"}
	if r.AtLeast(7, 0, 2) {
		names = append(names, "CRYPTO64.EFI")
	}
	var files []Module
	for _, name := range names {
		m := r.randomFile("EFI/BOOT/"+name, 300<<10)
		files = append(files, m)
	}
	return files
}

// metadata are the files by which an ISO names itself, by path.
func (r Release) metadata() (map[string][]byte, error) {
	product := fmt.Sprintf("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<vum>\n  <product>\n    <build>%s</build>\n    <esxVersion>%s</esxVersion>\n  </product>\n</vum>\n", r.Build, r.Version)
	profile := fmt.Sprintf("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<imageprofile>\n  <name>%s</name>\n</imageprofile>\n", r.Profile)
	files := map[string][]byte{
		"UPGRADE/METADATA.XML":    []byte(product),
		"UPGRADE/PROFILE.XML":     []byte(profile),
		"UPGRADE/PRECHECK.PY":     []byte("# the simulator has no upgrade\n"),
		"UPGRADE/PREP.PY":         []byte("# the simulator has no upgrade\n"),
		".DISCINFO":               fmt.Appendf(nil, "ESXi\nVersion: %s-0.%s\n", r.Version, r.Build),
		"BOOT.CFG":                []byte(r.installerBootConfig()),
		"EFI/BOOT/BOOT.CFG":       []byte(r.installerBootConfig()),
		"ISOLINUX.CFG":            []byte(r.isolinuxConfig()),
		"VMWARE-ESX-BASE-OSL.TXT": fmt.Appendf(nil, "ESXi %s GA\n\nThis is a simulation of ESXi for tests. It holds no software of VMware.\n", r.Short()),
		"VMWARE-ESX-BASE-README":  []byte("A simulation of ESXi for tests.\n"),
	}
	for _, name := range []string{"UPGRADE/ESXIMAGE.ZIP", "UPGRADE/METADATA.ZIP"} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.Create("metadata.xml")
		if err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(product)); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		files[name] = b.Bytes()
	}
	return files, nil
}

// isolinuxConfig differs from a real one in how it starts the installer, and in
// not showing the menu for eight seconds before it does.
func (r Release) isolinuxConfig() string {
	return fmt.Sprintf(`DEFAULT install
MENU TITLE %s Boot Menu
NOHALT 1
PROMPT 0
TIMEOUT 80
LABEL install
  LINUX k.b00
  APPEND initrd=%s %s
  MENU LABEL %s ^Installer
LABEL hddboot
  LOCALBOOT 0x80
  MENU LABEL ^Boot from local disk
`, r.Profile, r.installerModule(), linuxOptions, r.Profile)
}

// linuxOptions keep the kernel's own messages off the screen, which belongs to
// the installer, and off the serial port, which belongs to its log.
const linuxOptions = "quiet loglevel=1 console=tty0 vt.global_cursor_default=0 " + tinylinux.FastOptions
