package iso

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/esxid/esxid/internal/command"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A fixture describes an installer ISO to make for a test.
type fixture struct {
	file       string // name of the ISO
	volumeID   string
	version    string // METADATA.XML
	build      string // METADATA.XML
	profile    string // PROFILE.XML
	bootConfig string // file in testdata
	bootBuild  string // value of boot.cfg's build
	kernelopt  string // "" for the one of the bootConfig
	licence    string // first line of the licence text
}

// fixtures by release. Those that VMware numbers in the same way
// stand for each other.
var fixtures = map[string]fixture{
	"6.5U1": {
		file: "VMware-VMvisor-Installer-6.5.0.update01-5969303.x86_64.iso", volumeID: "ESXI-6.5.0-20170702001-STANDARD",
		version: "6.5.0", build: "5969303", profile: "ESXi-6.5.0-20170702001-standard",
		bootConfig: "bootcfg.6.5.txt", bootBuild: "",
	},
	"6.7": {
		file: "VMware-VMvisor-Installer-6.7.0-8169922.x86_64.iso", volumeID: "ESXI-6.7.0-8169922-STANDARD",
		version: "6.7.0", build: "8169922", profile: "ESXi-6.7.0-8169922-standard",
		bootConfig: "bootcfg.6.5.txt", bootBuild: "6.7.0-0.0.8169922",
	},
	"6.7U3": {
		file: "VMware-VMvisor-Installer-6.7.0.update03-14320388.x86_64.iso", volumeID: "ESXI-6.7.0-20190802001-STANDARD",
		version: "6.7.0", build: "14320388", profile: "ESXi-6.7.0-20190802001-standard",
		bootConfig: "bootcfg.6.5.txt", bootBuild: "6.7.0-3.73.14320388",
	},
	"7.0": {
		file: "VMware-VMvisor-Installer-7.0.0-15843807.x86_64.iso", volumeID: "ESXI-7.0.0-15843807-STANDARD",
		version: "7.0.0", build: "15843807", profile: "ESXi-7.0.0-15843807-standard",
		bootConfig: "bootcfg.7.0.0.txt", bootBuild: "7.0.0-1.0.15843807",
	},
	"7.0U3d": {
		file: "VMware-VMvisor-Installer-7.0U3d-19482537.x86_64.iso", volumeID: "ESXI-7.0U3D-19482537-STANDARD",
		version: "7.0.3", build: "19482537", profile: "ESXi-7.0U3d-19482537-standard",
		bootConfig: "bootcfg.7.0.0.txt", bootBuild: "7.0.3-0.35.19482537", licence: "ESXi 7.0U3d GA",
	},
	"8.0U3e": {
		file: "VMware-VMvisor-Installer-8.0U3e-24677879.x86_64.iso", volumeID: "ESXI-8.0U3E-24677879-STANDARD",
		version: "8.0.3", build: "24677879", profile: "ESXi-8.0U3e-24677879-standard",
		bootConfig: "bootcfg.8.0.3.txt", bootBuild: "8.0.3-0.70.24677879",
	},
	"8.0U3-dell": {
		file: "VMware-VMvisor-Installer-8.0.0.update03-24280767.x86_64-Dell_Customized-A02.iso", volumeID: "DEL-ESXI_803.24280767-A02",
		version: "8.0.3", build: "24280767", profile: "DEL-ESXi_803.24280767-A02",
		bootConfig: "bootcfg.8.0.3.txt", bootBuild: "8.0.3-0.35.24280767", kernelopt: "cdromBoot runweasel",
	},
	"7.0U3o-hpe": {
		file: "VMware-ESXi-7.0u3o-22348816-HPE-703.0.0.11.5.0.6-Jan2024.iso", volumeID: "HPE-CUSTOM-ADDON_703.0.0.11.5.0-",
		version: "7.0.3", build: "22348816", profile: "HPE-Custom-AddOn_703.0.0.11.5.0-6",
		bootConfig: "bootcfg.7.0.0.txt", bootBuild: "7.0.3-0.105.22348816", kernelopt: "cdromBoot runweasel",
	},
	"7.0U1-lenovo": {
		file: "VMware-ESXi-7.0.1.-16850804-LNV-20200917.iso", volumeID: "LNV-ESXI-7.0.1-16850804-20200917",
		version: "7.0.1", build: "16850804", profile: "LNV-ESXi-7.0.1-16850804-20200917",
		bootConfig: "bootcfg.7.0.0.txt", bootBuild: "7.0.1-0.0.16850804", kernelopt: "cdromBoot runweasel",
	},
	"7.0U1-cisco": {
		file: "VMware-ESXi-7.0.1-16850804-Custom-Cisco-4.1.2-b.iso", volumeID: "CISCO-UCS-CUSTOM-ESXI-70U1-16850",
		version: "7.0.1", build: "16850804", profile: "Cisco-UCS-Custom-ESXi-70U1-16850804_4.1.2-b",
		bootConfig: "bootcfg.7.0.0.txt", bootBuild: "7.0.1-0.0.16850804",
	},
	"7.0U3g-custom": {
		file: "lab.iso", volumeID: "ESXI-7.0U3G-NUC12-SYN",
		version: "7.0.3", build: "20328353", profile: "ESXi-7.0U3g-NUC12-syn",
		bootConfig: "bootcfg.7.0.0.txt", bootBuild: "7.0.3-0.55.20328353",
	},
	"9.0": {
		file: "VMware-VMvisor-Installer-9.0.0.0.24755229.x86_64.iso", volumeID: "ESXI-9.0.0.0.24755229-STANDARD",
		version: "9.0.0.0", build: "24755229", profile: "ESXi-9.0.0.0.24755229-standard",
		bootConfig: "bootcfg.8.0.3.txt", bootBuild: "9.0.0.0-24755229",
	},
	"9.1.1": {
		file: "VMware-VMvisor-Installer-9.1.1.0.25714478.x86_64.iso", volumeID: "ESXI-9.1.1.0-25714478-STANDARD",
		version: "9.1.1.0", build: "25714478", profile: "ESXi-9.1.1.0-25714478-standard",
		bootConfig: "bootcfg.9.1.1.txt", bootBuild: "9.1.1.0-25714478",
	},
}

// tree is the content of an ISO: text by path.
type tree map[string]string

// files returns the content of the ISO.
func (f fixture) files(t testing.TB) tree {
	t.Helper()
	config := testdata(t, f.bootConfig)
	config = replaceLine(config, "build=", "build="+f.bootBuild)
	if f.kernelopt != "" {
		config = replaceLine(config, "kernelopt=", "kernelopt="+f.kernelopt)
	}
	tr := tree{
		".DISCINFO":               "ESXi\nVersion: " + f.version + "-0." + f.build + "\n",
		"VMWARE-ESX-BASE-OSL.TXT": f.licence + "\nlicences\n",
		"BOOT.CFG":                config,
		"EFI/BOOT/BOOT.CFG":       config,
		"UPGRADE/METADATA.XML":    "<vum><product><build>" + f.build + "</build><esxVersion>" + f.version + "</esxVersion></product></vum>\n",
		"UPGRADE/PROFILE.XML":     "<?xml version=\"1.0\"?>\n<imageprofile><name>" + f.profile + "</name><viblist><vib><name>x</name></vib></viblist></imageprofile>\n",
		"UPGRADE/ESXIMAGE.ZIP":    zipMagic + strings.Repeat("zip", 2000),
	}
	modules, err := parseBootConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(modules.files(), strings.Fields(testdata(t, "listing.7.0U3d.txt"))...) {
		name = strings.ToUpper(strings.TrimPrefix(name, "/"))
		if _, exists := tr[name]; !exists {
			tr[name] = "content of " + name + "\n"
		}
	}
	if strings.HasPrefix(f.version, "6.") {
		// Not on these ISOs; the installer module is WEASELIN.T00.
		delete(tr, "ESXUPDT.V00")
		delete(tr, "WEASELIN.V00")
	}
	tr["ISOLINUX.BIN"] = strings.Repeat("isolinux", 512)
	tr["EFIBOOT.IMG"] = strings.Repeat("fat file", 1024)
	return tr
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replaceLine replaces the line of text that begins with prefix.
func replaceLine(text, prefix, line string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		if strings.HasPrefix(lines[i], prefix) {
			lines[i] = line
		}
	}
	return strings.Join(lines, "\n")
}

const remove = "\x00remove"

// alter changes files of an image, which is much faster than making another:
// new texts go to the end, and a file whose text is remove gets another name.
func alter(t testing.TB, iso []byte, changes tree) []byte {
	t.Helper()
	img, err := inMemory(iso)
	if err != nil {
		t.Fatal(err)
	}
	iso = bytes.Clone(iso)
	for path, text := range changes {
		n, err := img.lookup(path)
		if err != nil {
			t.Fatal(err)
		}
		record := iso[n.record:]
		if text == remove {
			fill(record[recordName:recordName+len(n.name)], '_')
			continue
		}
		putBoth32(record[recordExtent:], uint32(len(iso)/sectorSize))
		putBoth32(record[recordLength:], uint32(len(text)))
		padded := make([]byte, roundUp(int64(len(text))))
		copy(padded, text)
		iso = append(iso, padded...)
	}
	return iso
}

// plainISO are the options of xorriso for an ISO as VMware makes them: upper
// case names that are not strict, no Rock Ridge, two boot images.
var (
	plainNames = []string{"-iso-level", "3", "-l", "-L", "-relaxed-filenames", "--norock", "-A", "ESXIMAGE"}
	bootImages = []string{
		"-b", "ISOLINUX.BIN", "-c", "BOOT.CAT", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
		"-eltorito-alt-boot", "-e", "EFIBOOT.IMG", "-no-emul-boot",
	}
	plainISO = slices.Concat(plainNames, bootImages)
)

// image makes an ISO with xorriso and returns its bytes.
func (tr tree) image(t testing.TB, volumeID string, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for path, text := range tr {
		path = filepath.Join(dir, "tree", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out.iso")
	args := append([]string{"-as", "mkisofs", "-quiet", "-V", volumeID, "-o", out}, options...)
	if _, err := command.Output(context.Background(), "xorriso", append(args, filepath.Join(dir, "tree"))...); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// image makes the ISO.
func (f fixture) image(t testing.TB) []byte {
	t.Helper()
	return f.files(t).image(t, f.volumeID, plainISO...)
}

// sample is an ISO that tests share; they work on copies.
var sample struct {
	once  sync.Once
	bytes []byte
}

// sampleISO returns a copy of an 8.0U3e ISO.
func sampleISO(t testing.TB) []byte {
	t.Helper()
	sample.once.Do(func() { sample.bytes = fixtures["8.0U3e"].image(t) })
	if sample.bytes == nil {
		t.Fatal("the sample ISO could not be made")
	}
	return bytes.Clone(sample.bytes)
}

// inMemory reads an image that is no file.
func inMemory(b []byte) (*Image, error) {
	return parse("test.iso", bytes.NewReader(b), int64(len(b)))
}

// openISO writes an image to a file and opens that.
func openISO(t testing.TB, name string, b []byte) *Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}
