package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/fault"
	"github.com/google/go-cmp/cmp"
)

// payload is one of the shape that is really written.
func payload(size int) []PayloadFile {
	return []PayloadFile{
		{"curtin/curtin-hooks", bytes.Repeat([]byte("#!/usr/bin/python3\n"), 100)},
		{"curtin/esxid/agent.py", bytes.Repeat([]byte("a"), size)},
		{"curtin/esxid/empty", nil},
		{"curtin/esxid/lib/json.py", []byte("x\n")},
	}
}

// hashOf returns the SHA-256 of length bytes of a file.
func hashOf(t testing.TB, path string, offset, length int64) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, offset, length)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func fsck(t testing.TB, p part, disk string) {
	t.Helper()
	runTool(t, "fsck.vfat", "-n", p.extract(t, disk))
}

func TestWritePayload(t *testing.T) {
	for _, tt := range []struct {
		name string
		esp  part
		size int64
	}{
		{"6.x", disk6[0], disk6Size},
		{"7.x", disk7[0], 32 * gib},
		{"FAT12", part{1, 64, 4095, typeESP, 12, 4}, 8 * mib},
		{"FAT32", part{1, 2048, 204863, typeESP, 32, 1}, 128 * mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			disk := newDisk(t, tt.size, []part{tt.esp})
			others := map[string][]byte{"EFI/BOOT/BOOTX64.EFI": bytes.Repeat([]byte("e"), 123456), "syslinux.cfg": []byte("x"), "a long name beside.txt": []byte("y")}
			copyTree(t, tt.esp.at(disk), others)
			before := hashOf(t, disk, 0, 64*sectorSize)
			files := payload(300 * kib)
			slices.Reverse(files) // the order does not matter

			var first string
			for range 2 {
				if err := WritePayload(t.Context(), tt.esp.target(t, disk), tt.esp.size(), files, mib); err != nil {
					t.Fatal(err)
				}
				fsck(t, tt.esp, disk)
				f := openFile(t, tt.esp.extract(t, disk))
				root, err := f.root()
				if err != nil {
					t.Fatal(err)
				}
				got := map[string][]byte{}
				for _, e := range root {
					if !e.dir {
						if got[e.name], err = f.readFile(e, mib); err != nil {
							t.Fatal(err)
						}
						continue
					}
					tree, err := f.readTree(e.name, e)
					if err != nil {
						t.Fatal(err)
					}
					for name, data := range tree.files {
						got[name] = append([]byte{}, data...)
					}
				}
				want := map[string][]byte{}
				for name, data := range others {
					want[name] = data
				}
				for _, file := range files {
					want[file.Path] = append([]byte{}, file.Data...)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("files on the partition (-want +got):\n%s", diff)
				}
				if first == "" {
					first = hashOf(t, disk, tt.esp.first*sectorSize, tt.esp.size())
				}
			}
			// On FAT32 mtools goes on where it stopped, so there only the files are equal.
			if got := hashOf(t, disk, tt.esp.first*sectorSize, tt.esp.size()); got != first && tt.esp.fat != 32 {
				t.Error("writing again changed the file system")
			}
			if hashOf(t, disk, 0, 64*sectorSize) != before {
				t.Error("something before the partition changed")
			}
		})
	}
}

// TestWritePayloadReplaces: files of an older payload do not stay.
func TestWritePayloadReplaces(t *testing.T) {
	disk := newDisk(t, disk6Size, disk6)
	esp := disk6[0]
	copyTree(t, esp.at(disk), map[string][]byte{"CURTIN/OLD/STALE.PY": bytes.Repeat([]byte("o"), 2*mib)})
	// It only fits because the old one goes.
	if err := WritePayload(t.Context(), esp.target(t, disk), esp.size(), payload(2*mib), mib); err != nil {
		t.Fatal(err)
	}
	fsck(t, esp, disk)
	f := openFile(t, esp.extract(t, disk))
	root, err := f.root()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := f.readHookDir()
	if err != nil || len(root) != 1 || len(tree.files) != 4 {
		t.Errorf("root %+v, files %v, %v", root, tree, err)
	}
}

// TestRoomIsExact: the largest payload that is accepted leaves minFree, as mdir
// sees it, and one byte more is refused with the disk untouched.
func TestRoomIsExact(t *testing.T) {
	disk := newDisk(t, disk6Size, disk6)
	esp := disk6[0]
	f := openFile(t, esp.extract(t, disk))
	free, err := f.freeBytes()
	if err != nil {
		t.Fatal(err)
	}
	files := func(n int64) []PayloadFile { return []PayloadFile{{"curtin/curtin-hooks", make([]byte, n)}} }
	fits := free - mib - f.clusterSize // the directory takes one
	before := hashOf(t, disk, 0, disk6Size)
	err = WritePayload(t.Context(), esp.target(t, disk), esp.size(), files(fits+1), mib)
	if fault.ClassOf(err) != fault.Input || !strings.Contains(err.Error(), "1.00 MiB (1048576 bytes) must stay free") {
		t.Errorf("one byte too many: %v", err)
	}
	if hashOf(t, disk, 0, disk6Size) != before {
		t.Error("the refused payload changed the disk")
	}
	if err := WritePayload(t.Context(), esp.target(t, disk), esp.size(), files(fits), mib); err != nil {
		t.Fatal(err)
	}
	if got := mtoolsFree(t, esp.at(disk)); got != mib {
		t.Errorf("%d bytes are free, want %d", got, mib)
	}
}

func TestWritePayloadRefuses(t *testing.T) {
	disk := newDisk(t, disk6Size, disk6)
	esp, dump := disk6[0], disk6[3]
	withFile := newDisk(t, disk6Size, disk6)
	copyTree(t, esp.at(withFile), map[string][]byte{"curtin": []byte("a file")})
	one := []PayloadFile{{"curtin/curtin-hooks", []byte("x")}}
	for _, tt := range []struct {
		name   string
		disk   string
		part   part
		files  []PayloadFile
		class  fault.Class
		saying string
	}{
		{"not FAT", disk, dump, one, fault.Input, "not a FAT file system"},
		{"curtin is a file", withFile, esp, one, fault.Input, "has a file named curtin"},
		{"no files", disk, esp, nil, fault.Failed, "there are no files"},
		{"outside of curtin", disk, esp, []PayloadFile{{"EFI/x", nil}}, fault.Failed, "not a path below curtin"},
		{"upwards", disk, esp, []PayloadFile{{"curtin/../EFI/x", nil}}, fault.Failed, "not a path below curtin"},
		{"wildcard", disk, esp, []PayloadFile{{"curtin/*", nil}}, fault.Failed, "could change"},
		{"twice", disk, esp, []PayloadFile{{"curtin/a", nil}, {"curtin/A", nil}}, fault.Failed, "twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := WritePayload(t.Context(), tt.part.target(t, tt.disk), tt.part.size(), tt.files, mib)
			if fault.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.saying) {
				t.Errorf("err = %v, want class %d and %q", err, tt.class, tt.saying)
			}
		})
	}
}

func TestWritePayloadWithoutMtools(t *testing.T) {
	disk := newDisk(t, disk6Size, disk6)
	t.Setenv("PATH", t.TempDir())
	err := WritePayload(t.Context(), disk6[0].target(t, disk), disk6[0].size(), payload(10), mib)
	if fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "apt install mtools") {
		t.Errorf("err = %v", err)
	}
}

func TestWritePayloadIsCancelled(t *testing.T) {
	disk := newDisk(t, disk6Size, disk6)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WritePayload(ctx, disk6[0].target(t, disk), disk6[0].size(), payload(10), mib); err == nil || ctx.Err() == nil {
		t.Errorf("err = %v", err)
	}
}

// TestOddPaths: the name of the image means nothing to mtools.
func TestOddPaths(t *testing.T) {
	disk := newDisk(t, disk6Size, disk6)
	odd := filepath.Join(t.TempDir(), "-i a@@1 :b \n'$(x)")
	if err := os.Rename(disk, odd); err != nil {
		t.Fatal(err)
	}
	if err := WritePayload(t.Context(), disk6[0].target(t, odd), disk6[0].size(), payload(10), mib); err != nil {
		t.Error(err)
	}
}

// TestOperatorsMtoolsSettings: a configuration and variables that would change
// names do not reach the payload.
func TestOperatorsMtoolsSettings(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".mtoolsrc"), []byte("MTOOLS_NO_VFAT=1\nMTOOLS_LOWER_CASE=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("MTOOLS_NO_VFAT", "1")
	disk := newDisk(t, disk6Size, disk6)
	if err := WritePayload(t.Context(), disk6[0].target(t, disk), disk6[0].size(), payload(10), mib); err != nil {
		t.Error(err)
	}
}
