package iso

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/fault"
	"github.com/google/go-cmp/cmp"
)

// TestIdentify compares what is found in an ISO of each release with the golden
// files. Path and size, which differ from run to run, are checked and cleared.
func TestIdentify(t *testing.T) {
	for name, f := range fixtures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := openISO(t, f.file, f.image(t))
			info, warnings, err := Identify(t.Context(), img)
			if err != nil {
				t.Fatal(err)
			}
			if info.Path != img.path || info.Size != img.Size() {
				t.Errorf("path and size are %s %d, want %s %d", info.Path, info.Size, img.path, img.Size())
			}
			info.Path, info.Size = "", 0
			got, err := json.MarshalIndent(struct {
				Info     Info     `json:"info"`
				Warnings []string `json:"warnings"`
			}{info, warnings}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := filepath.Join("testdata", "identify", name+".json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// identify identifies an image in memory.
func identify(t *testing.T, iso []byte) (Info, []string, error) {
	t.Helper()
	img, err := inMemory(iso)
	if err != nil {
		return Info{}, nil, err
	}
	return Identify(t.Context(), img)
}

func TestIdentifyRefuses(t *testing.T) {
	const config = "kernel=/b.b00\nkernelopt=runweasel cdromBoot\nmodules=/k.b00\nbuild=8.0.3-0.70.24677879\n"
	both := func(config string) tree { return tree{"BOOT.CFG": config, "EFI/BOOT/BOOT.CFG": config} }
	tests := []struct {
		name    string
		changes tree
		want    string
	}{
		{"no metadata", tree{"UPGRADE/METADATA.XML": remove}, "cannot find /UPGRADE/METADATA.XML"},
		{"empty metadata", tree{"UPGRADE/METADATA.XML": ""}, "/UPGRADE/METADATA.XML is empty"},
		{"cut metadata", tree{"UPGRADE/METADATA.XML": "<vum><product>"}, "/UPGRADE/METADATA.XML is damaged: XML syntax error on line 1: unexpected EOF"},
		{"long metadata", tree{"UPGRADE/METADATA.XML": strings.Repeat(" ", maxMetadata+1)}, "more than the 1048576 expected"},
		{"deep metadata", tree{"UPGRADE/METADATA.XML": strings.Repeat("<a>", 100)}, "nested more than 64 deep"},
		{"odd version", tree{"UPGRADE/METADATA.XML": "<a><esxVersion>../../etc</esxVersion><build>24677879</build></a>"}, `no valid version: "../../etc"`},
		{"odd build", tree{"UPGRADE/METADATA.XML": "<a><esxVersion>8.0.3</esxVersion><build>24677879b</build></a>"}, `no valid build number: "24677879b"`},
		{"declared entity", tree{"UPGRADE/METADATA.XML": `<!DOCTYPE a [<!ENTITY e "24677879">]><a><build>&e;</build></a>`}, "invalid character entity &e;"},
		{"external entity", tree{"UPGRADE/METADATA.XML": `<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a><build>&e;</build></a>`}, "invalid character entity &e;"},
		{"no profile", tree{"UPGRADE/PROFILE.XML": remove}, "cannot find /UPGRADE/PROFILE.XML"},
		{"nameless profile", tree{"UPGRADE/PROFILE.XML": "<imageprofile><vib><name>x</name></vib></imageprofile>"}, "no valid name of an image profile"},
		{"odd profile", tree{"UPGRADE/PROFILE.XML": "<imageprofile><name>a\u202eb</name></imageprofile>"}, "no valid name of an image profile"},
		{"build contradicts", both(strings.Replace(config, "24677879", "24677880", 1)),
			"it contradicts itself: /UPGRADE/METADATA.XML says build 24677879, /BOOT.CFG says 24677880"},
		{"UEFI build contradicts", tree{"EFI/BOOT/BOOT.CFG": strings.Replace(config, "24677879", "24677880", 1)},
			"/EFI/BOOT/BOOT.CFG says 24677880"},
		{"version contradicts", both(strings.Replace(config, "8.0.3", "7.0.3", 1)),
			"it contradicts itself: /UPGRADE/METADATA.XML says version 8.0.3, /BOOT.CFG says 7.0.3"},
		{"no runweasel", both(strings.Replace(config, "runweasel", "", 1)), "/BOOT.CFG does not start the installer: its kernelopt has no runweasel"},
		{"empty kernelopt", both(strings.Replace(config, "runweasel cdromBoot", "", 1)), "its kernelopt has no runweasel"},
		{"no runweasel with UEFI", tree{"EFI/BOOT/BOOT.CFG": strings.Replace(config, "runweasel", "", 1)}, "/EFI/BOOT/BOOT.CFG does not start the installer"},
		{"empty boot.cfg", both(""), "its kernelopt has no runweasel"},
		{"boot.cfg with a bad number", both(config + "timeout=five\n"), `/BOOT.CFG in test.iso: line 5: the value of timeout is not a number: "five"`},
		{"binary boot.cfg", both("\x00\x01"), "it is not a text file"},
		{"long boot.cfg", both(config + strings.Repeat("#\n", maxBootConfig)), "more than the 65536 expected"},
		{"no boot.cfg", tree{"BOOT.CFG": remove}, "cannot find /BOOT.CFG"},
		{"no UEFI boot.cfg", tree{"EFI/BOOT/BOOT.CFG": remove}, "cannot find /EFI/BOOT/BOOT.CFG"},
		{"no kernel line", both(strings.Replace(config, "kernel=/b.b00\n", "", 1)), "/BOOT.CFG names no kernel"},
		{"no kernel", tree{"B.B00": remove}, "not a complete ESXi installer: /b.b00 is missing"},
		{"empty kernel", tree{"B.B00": ""}, "/b.b00 is empty"},
		{"no module", tree{"VIM.V00": remove}, "/vim.v00 is missing"},
		{"empty module", tree{"VIM.V00": ""}, "/vim.v00 is empty"},
		{"many modules missing", both(config + "modules=" + strings.Repeat("/nope --- ", 5) + "/a0 --- /a1 --- /a2 --- /a3 --- /a4 --- /a5 --- /a6 --- /a7 --- /a8\n"),
			"/a0 is missing, /a1 is missing, /a2 is missing, /a3 is missing, /a4 is missing, /a5 is missing, /a6 is missing, /a7 is missing, ...: download"},
		{"module below a missing prefix", both(config + "prefix=/elsewhere\nmodules=k.b00\n"), "/elsewhere/k.b00 is missing"},
		{"no installer module", tree{"WEASELIN.V00": remove}, "/WEASELIN.* is missing"},
		{"no esxupdt", tree{"ESXUPDT.V00": remove}, "/esxupdt.v00 is missing"},
		{"no image database", tree{"IMGDB.TGZ": remove}, "/imgdb.tgz is missing"},
		{"empty payload", tree{"IMGPAYLD.TGZ": ""}, "/imgpayld.tgz is empty"},
		{"no mboot", tree{"MBOOT.C32": remove}, "/MBOOT.C32 is missing"},
		{"no image archive", tree{"UPGRADE/ESXIMAGE.ZIP": remove}, "/UPGRADE/ESXIMAGE.ZIP is missing"},
		{"image archive is no ZIP", tree{"UPGRADE/ESXIMAGE.ZIP": "PK\x05\x06"}, "/UPGRADE/ESXIMAGE.ZIP is not a ZIP archive"},
		{"image archive is short", tree{"UPGRADE/ESXIMAGE.ZIP": "PK"}, "/UPGRADE/ESXIMAGE.ZIP is not a ZIP archive"},
	}
	base := sampleISO(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := identify(t, alter(t, base, tt.changes))
			checkError(t, err, fault.Input, tt.want)
		})
	}
}

// checkError checks the class and a part of the text of an error.
func checkError(t *testing.T, err error, class fault.Class, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("there is no error, want %q", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("the error is %q, want %q in it", err, want)
	case fault.ClassOf(err) != class:
		t.Errorf("the class of %q is %d, want %d", err, fault.ClassOf(err), class)
	}
}

func TestIdentifyWarns(t *testing.T) {
	tests := []struct {
		name    string
		changes tree
		want    string
	}{
		{"upgrade file missing", tree{"UPGRADE/PREP.PY": remove}, "/UPGRADE/PREP.PY is missing"},
		{"profile says another build", tree{"UPGRADE/PROFILE.XML": "<imageprofile><name>ESXi-8.0U3-24022510-standard</name></imageprofile>"},
			"says build 24677879, image profile ESXi-8.0U3-24022510-standard says 24022510"},
		{"boot.cfg says another update", tree{"BOOT.CFG": "kernel=/b.b00\nkernelopt=runweasel\nbuild=8.0.2-1.24677879\n"},
			"says version 8.0.3, /BOOT.CFG says 8.0.2"},
		{"disc information says another build", tree{".DISCINFO": "ESXi\nVersion: 8.0.3-0.24022510\n"}, "/.DISCINFO says 24022510"},
		{"licence text says another version", tree{"VMWARE-ESX-BASE-OSL.TXT": "\r\n ESXi 8.0U2 GA\r\n"}, "/VMWARE-ESX-BASE-OSL.TXT says 8.0.2"},
		{"metadata says nothing", tree{"UPGRADE/METADATA.XML": "<vum><product/></vum>"}, "/UPGRADE/METADATA.XML does not say both version and build"},
	}
	base := sampleISO(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			info, warnings, err := identify(t, alter(t, base, tt.changes))
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], tt.want) {
				t.Errorf("the warnings are %q, want one with %q", warnings, tt.want)
			}
			if info.Version != "8.0.3" || info.Build != "24677879" {
				t.Errorf("found %s build %s", info.Version, info.Build)
			}
		})
	}
}

func TestIdentifyByFileName(t *testing.T) {
	const config = "kernel=/b.b00\nkernelopt=runweasel\nbuild=\n"
	iso := alter(t, sampleISO(t), tree{
		"UPGRADE/METADATA.XML": "<vum/>",
		".DISCINFO":            "ESXi\n",
		"BOOT.CFG":             config,
		"EFI/BOOT/BOOT.CFG":    config,
		"UPGRADE/PROFILE.XML":  "<imageprofile><name>lab</name></imageprofile>",
	})
	copy(iso[firstDescriptor*sectorSize+pvdVolumeID:], "LAB                             ")
	info, _, err := Identify(t.Context(), openISO(t, "VMware-VMvisor-Installer-6.7.0.update03-14320388.x86_64.iso", iso))
	if err != nil {
		t.Fatal(err)
	}
	if info.Version != "6.7.0" || info.Update != "U3" || info.Build != "14320388" || info.Vendor != "custom" {
		t.Errorf("found %+v", info)
	}
	_, _, err = Identify(t.Context(), openISO(t, "lab.iso", iso))
	checkError(t, err, fault.Input, "nothing in it says its version")
}

func TestOtherISOs(t *testing.T) {
	debian := tree{
		".disk/info": "Debian GNU/Linux 12\n", "README.txt": "x", "ISOLINUX.BIN": strings.Repeat("x", 4096),
		"EFIBOOT.IMG": strings.Repeat("x", 4096), "pool/main/a/apt/apt_2.6.1_amd64.deb": "x", "dists/bookworm/Release": "x",
	}
	_, _, err := identify(t, debian.image(t, "Debian 12.5.0 amd64 n", append([]string{"-r", "-J", "-iso-level", "3"}, bootImages...)...))
	checkError(t, err, fault.Input, `it is not an ESXi installer: its volume "Debian 12.5.0 amd64 n" has neither /BOOT.CFG nor`)

	// A Windows ISO has an ISO 9660 part with a note, and everything else in
	// UDF. Its volume recognition sequence begins behind the terminator, where
	// the path table is here; the path table is not used.
	windows, err := Single("CCCOMA_X64FRE", "README.TXT", []byte("This disc contains a UDF file system"))
	if err != nil {
		t.Fatal(err)
	}
	copy(windows[18*sectorSize:], "\x00BEA01\x01")
	_, _, err = identify(t, windows)
	checkError(t, err, fault.Input, `not an ESXi installer: its volume, a UDF disc as Windows has them, "CCCOMA_X64FRE" has neither`)

	udf := make([]byte, 64*sectorSize)
	copy(udf[16*sectorSize:], "\x00BEA01\x01")
	_, err = inMemory(udf)
	checkError(t, err, fault.Input, "it is a UDF image, not an ESXi installer")
}

func TestNotBootable(t *testing.T) {
	base := fixtures["8.0U3e"].files(t)
	_, _, err := identify(t, base.image(t, "X", plainNames...))
	checkError(t, err, fault.Input, "it is not bootable: it has no El Torito boot catalog")

	_, warnings, err := identify(t, base.image(t, "X", slices.Concat(plainNames, bootImages[:7])...))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"the boot catalog does not start EFIBOOT.IMG: the ISO does not boot with UEFI"}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestIdentifyCancelled(t *testing.T) {
	img, err := inMemory(sampleISO(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Identify(ctx, img); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func BenchmarkIdentify(b *testing.B) {
	image := sampleISO(b)
	for b.Loop() {
		img, err := parse("test.iso", bytes.NewReader(image), int64(len(image)))
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := Identify(b.Context(), img); err != nil {
			b.Fatal(err)
		}
	}
}
