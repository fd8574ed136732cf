package iso

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
	"github.com/google/go-cmp/cmp"
)

// apply writes a patch over a copy of an image, as an overlay shows it.
func apply(iso []byte, p Patch) []byte {
	out := make([]byte, p.Size)
	copy(out, iso)
	for _, w := range p.Writes {
		copy(out[w.Offset:], w.Data)
	}
	return out
}

// checkPatchShape checks what any patch must keep to.
func checkPatchShape(t *testing.T, img *Image, p Patch) {
	t.Helper()
	if p.Size%sectorSize != 0 || p.Size <= img.Size() || p.Size > img.Size()+4*maxBootConfig {
		t.Errorf("the patched size is %d, the image's %d", p.Size, img.Size())
	}
	end := int64(0)
	for _, w := range p.Writes {
		if w.Offset%sectorSize != 0 || len(w.Data)%sectorSize != 0 || len(w.Data) == 0 || w.Offset < end || w.end() > p.Size {
			t.Errorf("write of %d bytes at %d, after %d, in %d", len(w.Data), w.Offset, end, p.Size)
		}
		end = w.end()
	}
}

// listing is what xorriso says about an ISO.
type listing struct {
	ElTorito, Volume string
	Files            map[string]string
}

// xorriso reads an ISO with another program than ours.
func xorriso(t *testing.T, iso []byte) listing {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "in.iso")
	if err := os.WriteFile(path, iso, 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, err := command.Output(context.Background(), "xorriso", append([]string{"-osirrox", "on", "-indev", path}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	out := filepath.Join(dir, "out")
	l := listing{
		ElTorito: run("-report_el_torito", "plain"),
		Volume:   strings.ReplaceAll(run("-pvd_info"), dir, ""),
		Files:    map[string]string{},
	}
	run("-extract", "/", out)
	err := filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		l.Files[strings.TrimPrefix(path, out+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestPatchBootConfig patches ISOs and reads them with xorriso: both boot.cfg
// files must be new and everything else as it was.
func TestPatchBootConfig(t *testing.T) {
	long := "kernel=/b.b00\r\nkernelopt=runweasel\r\nmodules=/k.b00" + strings.Repeat(" --- /vim.v00", 300) + "\r\n"
	other := "title=UEFI\nkernel=/b.b00\nkernelopt=cdromBoot runweasel"
	options := BootOptions{Add: []string{"ks=cdrom:/KS.CFG", "logPort=com1"}, Remove: []string{"cdromboot"}}
	tests := []struct {
		name       string
		iso        []byte
		bios, uefi string // "" for the sample's text with the options changed
		sectors    int64  // behind the end of the image
	}{
		{name: "same text", iso: sampleISO(t), sectors: 1},
		{name: "odd length", iso: append(sampleISO(t), "odd"...), sectors: 1},
		{name: "different texts", iso: alter(t, sampleISO(t), tree{"EFI/BOOT/BOOT.CFG": other}), sectors: 2,
			uefi: "title=UEFI\nkernel=/b.b00\nkernelopt=runweasel ks=cdrom:/KS.CFG logPort=com1"},
		{name: "several sectors", iso: alter(t, sampleISO(t), tree{"BOOT.CFG": long}), sectors: 3,
			bios: strings.Replace(long, "kernelopt=runweasel", "kernelopt=runweasel ks=cdrom:/KS.CFG logPort=com1", 1)},
		{name: "one extent with two names", iso: shareExtent(t), sectors: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			original := bytes.Clone(tt.iso)
			img, err := inMemory(tt.iso)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := img.PatchBootConfig(options)
			if err != nil {
				t.Fatal(err)
			}
			checkPatchShape(t, img, patch)
			if got := (patch.Size - roundUp(img.Size())) / sectorSize; got != tt.sectors {
				t.Errorf("the patch adds %d sectors, want %d", got, tt.sectors)
			}
			if !bytes.Equal(tt.iso, original) {
				t.Error("the image itself was changed")
			}

			want, got := xorriso(t, tt.iso), xorriso(t, apply(tt.iso, patch))
			for path, text := range map[string]string{biosBootConfig: tt.bios, uefiBootConfig: tt.uefi} {
				if text == "" {
					text = strings.Replace(want.Files[path], "kernelopt=runweasel cdromBoot", "kernelopt=runweasel ks=cdrom:/KS.CFG logPort=com1", 1)
				}
				if text == want.Files[path] {
					t.Fatalf("the test expects no change of %s", path)
				}
				want.Files[path] = text
			}
			if diff := cmp.Diff(want.Files, got.Files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want.ElTorito, got.ElTorito); diff != "" {
				t.Errorf("El Torito (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want.Volume, got.Volume); diff != "" {
				t.Errorf("volume (-want +got):\n%s", diff)
			}
			checkUntouched(t, tt.iso, patch)

			again, err := inMemory(apply(tt.iso, patch))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := Identify(t.Context(), again); err != nil {
				t.Errorf("the patched image is refused: %v", err)
			}
			if size := patch.Size / sectorSize; again.volumeSectors(t) != size {
				t.Errorf("the volume has %d sectors, the image %d", again.volumeSectors(t), size)
			}
		})
	}
}

// shareExtent returns an ISO whose two boot.cfg records point to one extent.
func shareExtent(t *testing.T) []byte {
	t.Helper()
	iso := sampleISO(t)
	img, err := inMemory(iso)
	if err != nil {
		t.Fatal(err)
	}
	bios, err := img.lookup(biosBootConfig)
	if err != nil {
		t.Fatal(err)
	}
	uefi, err := img.lookup(uefiBootConfig)
	if err != nil {
		t.Fatal(err)
	}
	copy(iso[uefi.record+recordExtent:][:16], iso[bios.record+recordExtent:])
	return iso
}

// volumeSectors returns the length that the volume descriptor states.
func (img *Image) volumeSectors(t *testing.T) int64 {
	t.Helper()
	d, err := img.read(img.primary*sectorSize+pvdVolumeSize, 8)
	if err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint32(d)
	if big := binary.BigEndian.Uint32(d[4:]); big != size {
		t.Errorf("the volume has %d sectors in one byte order, %d in the other", size, big)
	}
	return int64(size)
}

// checkUntouched checks that of the original bytes a patch changes the volume
// size and the two records' extents and lengths, eight bytes each, at most.
func checkUntouched(t *testing.T, iso []byte, p Patch) {
	t.Helper()
	changed := 0
	patched := apply(iso, p)
	for i := range iso {
		if iso[i] != patched[i] {
			changed++
		}
	}
	if changed > 5*8 {
		t.Errorf("%d bytes of the original changed", changed)
	}
}

func TestPatchRefuses(t *testing.T) {
	tests := []struct {
		name    string
		options BootOptions
		changes tree
		class   fault.Class
		want    string
	}{
		{"option with a blank", BootOptions{Add: []string{"ks=a b"}}, nil, fault.Config, `cannot use the kernel option "ks=a b"`},
		{"option with a line end", BootOptions{Add: []string{"a\nkernel=/x"}}, nil, fault.Config, "one word of ASCII"},
		{"empty option", BootOptions{Remove: []string{""}}, nil, fault.Config, "one word"},
		{"nameless option", BootOptions{Add: []string{"=x"}}, nil, fault.Config, "one word"},
		{"bad boot.cfg", BootOptions{}, tree{"BOOT.CFG": "timeout=x"}, fault.Input, "the value of timeout is not a number"},
		{"no UEFI boot.cfg", BootOptions{}, tree{"EFI/BOOT/BOOT.CFG": remove}, fault.Input, "cannot find /EFI/BOOT/BOOT.CFG"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := inMemory(alter(t, sampleISO(t), tt.changes))
			if err != nil {
				t.Fatal(err)
			}
			_, err = img.PatchBootConfig(tt.options)
			checkError(t, err, tt.class, tt.want)
		})
	}
}

func TestSingle(t *testing.T) {
	text := strings.Repeat("vmaccepteula\n", 1000)
	for _, data := range []string{"", "x", text[:sectorSize], text} {
		b, err := Single("KICKSTART", "KS.CFG", []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Single("KICKSTART", "KS.CFG", []byte(data))
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("a second call gives other bytes: %v", err)
		}
		l := xorriso(t, b)
		if diff := cmp.Diff(map[string]string{"KS.CFG": data}, l.Files); diff != "" {
			t.Errorf("xorriso reads (-want +got):\n%s", diff)
		}
		if !strings.Contains(l.Volume, "Volume Id    : KICKSTART\n") {
			t.Errorf("xorriso says: %s", l.Volume)
		}
		img, err := inMemory(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := img.ReadFile("KS.CFG", 1<<20); err != nil || string(got) != data {
			t.Errorf("%d bytes read as %d, %v", len(data), len(got), err)
		}
	}
}

func TestSingleRefuses(t *testing.T) {
	tests := []struct {
		volumeID, name string
		size           int
		want           string
	}{
		{"KS", "ks.cfg", 1, "cannot make an ISO with the file name \"ks.cfg\": use upper case"},
		{"KS", "KICKSTART.CFG", 1, "at most 8.3"},
		{"KS", "KS.CONF", 1, "at most 8.3"},
		{"KS", "A/B", 1, "use upper case"},
		{"KS", "", 1, "use upper case"},
		{"KS", "KS.CFG;1", 1, "use upper case"},
		{"ks", "KS.CFG", 1, "the volume id \"ks\""},
		{strings.Repeat("A", 33), "KS.CFG", 1, "at most 32"},
		{"KS", "KS.CFG", maxSingle + 1, "more than 16777216"},
	}
	for _, tt := range tests {
		_, err := Single(tt.volumeID, tt.name, make([]byte, tt.size))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Single(%q, %q, %d): %v, want %q", tt.volumeID, tt.name, tt.size, err, tt.want)
		}
	}
}
