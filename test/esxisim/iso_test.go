package esxisim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func buildISO(t *testing.T, o Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "installer.iso")
	if err := BuildISO(t.Context(), o, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// xorriso reads what it made in its own way; the volume descriptors are looked
// at byte by byte.
func TestISOIsPlain(t *testing.T) {
	path := buildISO(t, Options{Version: "7.0U3d", PayloadMiB: 2})
	iso, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []byte
	for sector := 16; sector < 16+3; sector++ {
		kinds = append(kinds, iso[sector*2048])
	}
	if want := []byte{1, 0, 255}; !bytes.Equal(kinds, want) {
		t.Errorf("volume descriptors %v, want %v: one primary, El Torito, the end", kinds, want)
	}
	pvd := iso[16*2048:]
	for _, f := range []struct {
		name     string
		from, to int
		want     string
	}{
		{"system", 8, 40, ""}, {"volume", 40, 72, "ESXI-7.0U3D-19482537-STANDARD"}, {"volume set", 190, 318, ""},
		{"publisher", 318, 446, ""}, {"preparer", 446, 574, ""}, {"application", 574, 702, "ESXIMAGE"},
	} {
		if got := strings.TrimRight(string(pvd[f.from:f.to]), " \x00"); got != f.want {
			t.Errorf("%s id %q, want %q", f.name, got, f.want)
		}
	}
	// The names in the root directory, and nothing behind them: Rock Ridge
	// would be there.
	root := pvd[156:]
	at := int(binary.LittleEndian.Uint32(root[2:])) * 2048
	end := at + int(binary.LittleEndian.Uint32(root[10:]))
	var names []string
	for at < end {
		record := iso[at:]
		if record[0] == 0 {
			at = (at/2048 + 1) * 2048
			continue
		}
		length := int(record[32])
		if used := 33 + length + (length+1)%2; int(record[0]) != used {
			t.Errorf("%q is followed by %d bytes", record[33:33+length], int(record[0])-used)
		}
		names = append(names, string(record[33:33+length]))
		at += int(record[0])
	}
	for _, name := range []string{"BOOT.CFG;1", "VMWARE-ESX-BASE-OSL.TXT;1", ".DISCINFO;1", "EFI"} {
		if !slices.Contains(names, name) {
			t.Errorf("no %s in the root: %q", name, names)
		}
	}

	report := tool(t, "xorriso", "-indev", path, "-report_el_torito", "plain", "-find", "/", "-type", "f", "-exec", "echo")
	for _, want := range []string{
		"boot img :   1  BIOS  y   none  0x0000  0x00      4 ", "boot img :   2  UEFI  y   none  0x0000  0x00   8192 ",
		"img path :   1  /ISOLINUX.BIN", "img path :   2  /EFIBOOT.IMG", "img opts :   1  boot-info-table",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("El Torito: no %q in\n%s", want, report)
		}
	}
	listing, err := os.ReadFile("testdata/listing.7.0U3d.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := append(strings.Fields(string(listing)), "ldlinux.c32")
	var got []string
	for line := range strings.Lines(report) {
		if name, ok := strings.CutPrefix(strings.Trim(line, "'\n"), "/"); ok {
			got = append(got, strings.ToLower(name))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("files:\n%q\nwant\n%q", got, want)
	}
}

// Every version and vendor is made, names itself, and the boot.cfg files name
// what is there.
func TestISOOfEveryVersion(t *testing.T) {
	for _, o := range []Options{
		{Version: "6.5"}, {Version: "6.7", OEM: "hpe"}, {Version: "7.0U3", OEM: "lenovo"}, {Version: "8.0.3", OEM: "dell"}, {Version: "9.0", OEM: "cisco"},
	} {
		o.PayloadMiB = 2
		path := buildISO(t, o)
		r, err := NewRelease(o)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		tool(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", dir)
		bios, uefi := read(t, dir, "BOOT.CFG"), read(t, dir, "EFI/BOOT/BOOT.CFG")
		if !bytes.Equal(bios, uefi) {
			t.Errorf("%s: two different boot.cfg", r.Profile)
		}
		config, err := ParseBootConfig(string(bios))
		if err != nil || config.KernelOptions != r.KernelOptions() {
			t.Errorf("%s: boot.cfg: %v, %+v", r.Profile, err, config)
		}
		for _, name := range append(config.Modules, config.Kernel) {
			if fi, err := os.Stat(filepath.Join(dir, strings.ToUpper(name))); err != nil || fi.Size() == 0 {
				t.Errorf("%s: %s of boot.cfg: %v", r.Profile, name, err)
			}
		}
		for file, want := range map[string]string{
			"UPGRADE/METADATA.XML": "<esxVersion>" + r.Version + "</esxVersion>",
			"UPGRADE/PROFILE.XML":  "<name>" + r.Profile + "</name>",
			"UPGRADE/ESXIMAGE.ZIP": "PK\x03\x04",
			".DISCINFO":            r.Version + "-0." + r.Build,
			"K.B00":                "HdrS", // Linux
		} {
			if !strings.Contains(string(read(t, dir, file)), want) {
				t.Errorf("%s: no %q in %s", r.Profile, want, file)
			}
		}
		// So that t.TempDir can be removed again: the ISO's directories are
		// not writable.
		if err := exec.Command("chmod", "-R", "u+w", dir).Run(); err != nil {
			t.Error(err)
		}
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Error(err)
	}
	return data
}

func TestISOFollowsFromOptions(t *testing.T) {
	sum := func() string {
		data, err := os.ReadFile(buildISO(t, Options{Version: "6.7", PayloadMiB: 1}))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(data))
	}
	if first, second := sum(), sum(); first != second {
		t.Error("the same options gave two different ISOs")
	}
}

func TestPayloadSize(t *testing.T) {
	for _, version := range []string{"6.5", "7.0", "8.0.3"} {
		r, err := NewRelease(Options{Version: version})
		if err != nil {
			t.Fatal(err)
		}
		var total int64
		for _, m := range r.Modules() {
			total += m.Size
		}
		if total < 63<<20 || total > 65<<20 {
			t.Errorf("%s: the modules have %d bytes, want about 64 MiB", version, total)
		}
	}
}

func TestBuildISOLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if err := BuildISO(t.Context(), Options{Version: "1.2.3.4.5"}, filepath.Join(dir, "iso")); err == nil {
		t.Error("an unknown version was made")
	}
	t.Setenv("PATH", dir) // no xorriso
	if err := BuildISO(t.Context(), Options{Version: "6.7", Build: "12345678"}, filepath.Join(dir, "iso")); err == nil {
		t.Error("an ISO was made without xorriso")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
