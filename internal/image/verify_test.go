package image

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/fault"
)

// expected6 is what disk6 should be, once it has its payload.
func expected6(files []PayloadFile) Expect {
	e := Expect{Files: Sums(files)}
	for _, p := range disk6 {
		e.Partitions = append(e.Partitions, ExpectedPartition{Number: p.number, Type: p.typ, First: p.first, Last: p.last, FAT: p.fat != 0})
	}
	e.Partitions = append(e.Partitions, ExpectedPartition{Number: 3, Type: typeVMFS, Optional: true})
	return e
}

// customized6 is disk6 with files in its ESP and something in its last partition.
func customized6(t testing.TB, files []PayloadFile) string {
	t.Helper()
	disk := newDisk(t, disk6Size, disk6)
	if err := WritePayload(t.Context(), disk6[0].target(t, disk), disk6[0].size(), files, mib); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 300*kib)
	for i := range noise {
		noise[i] = byte(i * i >> 5)
	}
	patchFile(t, disk, disk6[3].first*sectorSize, noise)
	return disk
}

// small is a disk of its own kind, to be packed and verified hundreds of times.
func small(t testing.TB, files []PayloadFile) string {
	t.Helper()
	esp := part{1, 64, 4095, typeESP, 12, 4}
	disk := newDisk(t, 8*mib, []part{esp})
	if err := WritePayload(t.Context(), esp.target(t, disk), esp.size(), files, mib); err != nil {
		t.Fatal(err)
	}
	return disk
}

func recorded(e Expect, r PackResult) Expect {
	e.RawSize, e.PackedSize, e.SHA256 = r.RawSize, r.PackedSize, r.SHA256
	return e
}

// failed lists the names of the checks that failed.
func failed(checks []Check) (out []string) {
	for _, c := range checks {
		if !c.OK {
			out = append(out, c.Name)
		}
	}
	return out
}

func TestVerify(t *testing.T) {
	files := payload(20000)
	image, r := pack(t, customized6(t, files), PackOptions{})
	var last int64
	checks, err := Verify(t.Context(), image, recorded(expected6(files), r), func(done, total int64) {
		if done < last || total != r.PackedSize {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
		if strings.Contains(c.Detail, "\n") || c.Detail == "" {
			t.Errorf("check %+v is not a line", c)
		}
	}
	if got, want := strings.Join(names, ", "), "gzip, packed size, sha256, raw size, partition table, partitions, hook partition, payload"; got != want {
		t.Errorf("checks are %s, want %s", got, want)
	}
	if checks, err = Verify(t.Context(), image, Expect{}, nil); err != nil || len(checks) != len(names) {
		t.Errorf("with nothing to compare: %v, %v", checks, err)
	}
}

// TestVerifyForeignGzip: an image that another program packed is judged the same.
func TestVerifyForeignGzip(t *testing.T) {
	files := payload(20000)
	disk := small(t, files)
	expected := Expect{Files: Sums(files), Partitions: []ExpectedPartition{{Number: 1, Type: typeESP, FAT: true}}}
	for _, packer := range [][]string{{"gzip", "-c"}, {"pigz", "-c"}} {
		image := filepath.Join(t.TempDir(), "image.gz")
		out, err := os.Create(image)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(packer[0], append(packer[1:], disk)...)
		cmd.Stdout = out
		if err := errors.Join(cmd.Run(), out.Close()); err != nil {
			t.Fatal(err)
		}
		if checks, err := Verify(t.Context(), image, expected, nil); err != nil {
			t.Errorf("%s: %v %v", packer, checks, err)
		}
		e := expected
		e.RawSize = 8*mib - 1
		if checks, err := Verify(t.Context(), image, e, nil); fault.ClassOf(err) != fault.Input || strings.Join(failed(checks), " ") != "gzip" {
			t.Errorf("%s, one byte too long: %v %v", packer, checks, err)
		}
	}
}

func TestVerifyFindsWhatIsWrongOnTheDisk(t *testing.T) {
	files := payload(20000)
	esp, bank := disk6[0], disk6[1]
	other := []PayloadFile{{"curtin/curtin-hooks", []byte("another")}}
	for _, tt := range []struct {
		name   string
		spoil  func(t *testing.T, disk string, e *Expect)
		check  string
		saying string
	}{
		{"hook edited", func(t *testing.T, disk string, e *Expect) {
			e.Files = Sums(append([]PayloadFile{{"curtin/curtin-hooks", append([]byte("X"), files[0].Data[1:]...)}}, files[1:]...))
		}, "payload", "curtin/curtin-hooks (1900 bytes) is not what was written"},
		{"file missing", func(t *testing.T, disk string, e *Expect) {
			runTool(t, "mdel", "-i", esp.at(disk), "::/curtin/esxid/lib/json.py")
		}, "payload", "curtin/esxid/lib/json.py is missing"},
		{"file added", func(t *testing.T, disk string, e *Expect) {
			copyTree(t, esp.at(disk), map[string][]byte{"extra": nil})
			runTool(t, "mmove", "-i", esp.at(disk), "::/extra", "::/curtin/finalize")
		}, "payload", "curtin/finalize does not belong there"},
		{"no payload", func(t *testing.T, disk string, e *Expect) {
			runTool(t, "mdeltree", "-i", esp.at(disk), "::/curtin")
		}, "hook partition", "no partition has a directory /curtin"},
		{"two partitions with curtin", func(t *testing.T, disk string, e *Expect) {
			if err := WritePayload(t.Context(), bank.target(t, disk), bank.size(), other, 0); err != nil {
				t.Fatal(err)
			}
		}, "hook partition", "2 times, in partitions [1 5]"},
		{"CURTIN in capitals too", func(t *testing.T, disk string, e *Expect) {
			runTool(t, "mmd", "-i", bank.at(disk), "::/CURTIN")
		}, "hook partition", "2 times"},
		{"partition missing", func(t *testing.T, disk string, e *Expect) {
			e.Partitions = append(e.Partitions, ExpectedPartition{Number: 8, Type: typeBasic})
		}, "partitions", "8 is missing"},
		{"partition of another type", func(t *testing.T, disk string, e *Expect) { e.Partitions[3].Type = typeOSData }, "partitions", "7 is of type"},
		{"partition elsewhere", func(t *testing.T, disk string, e *Expect) { e.Partitions[1].Last++ }, "partitions", "5 is from 8224 to 49183"},
		{"no FAT in a boot bank", func(t *testing.T, disk string, e *Expect) {
			patchFile(t, disk, bank.first*sectorSize, make([]byte, sectorSize))
		}, "partitions", "5 holds no FAT file system"},
		{"FAT larger than its partition", func(t *testing.T, disk string, e *Expect) {
			patchFile(t, disk, bank.first*sectorSize+19, []byte{0, 0})
			patchFile(t, disk, bank.first*sectorSize+32, []byte{0, 0, 1, 0})
		}, "partitions", "5 cannot be read"},
		{"partition table", func(t *testing.T, disk string, e *Expect) {
			patchFile(t, disk, sectorSize+60, []byte{0xee})
		}, "partition table", "checksum of the header"},
		{"curtin leads nowhere", func(t *testing.T, disk string, e *Expect) {
			f := openFile(t, esp.extract(t, disk))
			patchFile(t, disk, esp.first*sectorSize+f.rootStart+26, []byte{0xfe, 0xfe})
		}, "payload", "a chain leads to cluster"},
		{"curtin is a file", func(t *testing.T, disk string, e *Expect) {
			runTool(t, "mdeltree", "-i", esp.at(disk), "::/curtin")
			copyTree(t, esp.at(disk), map[string][]byte{"curtin": nil})
		}, "hook partition", "no partition"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk, e := customized6(t, files), expected6(files)
			tt.spoil(t, disk, &e)
			image, r := pack(t, disk, PackOptions{})
			checks, err := Verify(t.Context(), image, recorded(e, r), nil)
			if fault.ClassOf(err) != fault.Input {
				t.Fatalf("err = %v, checks %v", err, checks)
			}
			for _, c := range checks {
				if c.Name == tt.check && !c.OK && strings.Contains(c.Detail, tt.saying) {
					return
				}
			}
			t.Errorf("checks %v, want %s to say %q", checks, tt.check, tt.saying)
		})
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	files := payload(20000)
	image, r := pack(t, small(t, files), PackOptions{})
	good, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	raw, dir := gunzip(t, image), t.TempDir()
	verify := func(b []byte, e Expect) ([]Check, error) {
		path := filepath.Join(dir, "damaged")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return Verify(t.Context(), path, e, nil)
	}
	e := Expect{Files: Sums(files), Partitions: []ExpectedPartition{{Number: 1, Type: typeESP, FAT: true}}}

	for n := len(good) - 1; n >= 0; n -= 1 + len(good)/25 {
		checks, err := verify(good[:n], recorded(e, r))
		if fault.ClassOf(err) != fault.Input || strings.Join(failed(checks), " ") != "gzip packed size sha256" {
			t.Errorf("cut to %d bytes: %v, %v", n, failed(checks), err)
		}
	}
	// Without a record it is the gzip itself that must tell.
	for n := 0; n < len(good); n += 1 + len(good)/60 {
		b := bytes.Clone(good)
		b[n] ^= 0x10
		checks, err := verify(b, e)
		if err == nil {
			// Some bits mean nothing: time and system in the head, padding.
			if !bytes.Equal(gunzip(t, filepath.Join(dir, "damaged")), raw) {
				t.Errorf("bit flipped in byte %d: not noticed", n)
			}
		} else if fault.ClassOf(err) != fault.Input || failed(checks)[0] != "gzip" {
			t.Errorf("bit flipped in byte %d: %v, %v", n, failed(checks), err)
		}
		if checks, err := verify(b, recorded(e, r)); fault.ClassOf(err) != fault.Input || !strings.Contains(strings.Join(failed(checks), " "), "sha256") {
			t.Errorf("bit flipped in byte %d, with a record: %v, %v", n, failed(checks), err)
		}
	}
	for _, tt := range []struct {
		name   string
		tail   []byte
		saying string
	}{
		{"a byte follows", []byte{'x'}, "something that is not gzip follows"},
		{"zeros follow", make([]byte, 1000), "something that is not gzip follows"},
		{"member follows", good, "a second gzip member follows"},
		{"empty member follows", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "a second gzip member follows"},
	} {
		checks, err := verify(append(bytes.Clone(good), tt.tail...), e)
		if fault.ClassOf(err) != fault.Input || failed(checks)[0] != "gzip" || !strings.Contains(checks[0].Detail, tt.saying) {
			t.Errorf("%s: %v, %v", tt.name, checks, err)
		}
	}
	for name, e := range map[string]Expect{
		"sha256":      {SHA256: strings.Repeat("0", 64)},
		"raw size":    {RawSize: r.RawSize + 1},
		"packed size": {PackedSize: r.PackedSize + 1},
	} {
		if checks, err := verify(good, e); fault.ClassOf(err) != fault.Input || strings.Join(failed(checks), " ") != name {
			t.Errorf("wrong %s: %v, %v", name, failed(checks), err)
		}
	}
	for _, text := range []string{"", "x", "not a gzip file", strings.Repeat("\x00", 100000)} {
		if checks, err := verify([]byte(text), Expect{}); fault.ClassOf(err) != fault.Input || failed(checks)[0] != "gzip" {
			t.Errorf("%.20q: %v, %v", text, checks, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Verify(t.Context(), dir, Expect{}, nil); fault.ClassOf(err) != fault.Input {
		t.Errorf("directory: %v", err)
	}
	if _, err := Verify(t.Context(), dir+"/none", Expect{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestVerifyIsCancelled(t *testing.T) {
	image, _ := pack(t, incompressible(t, 20), PackOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Verify(ctx, image, Expect{}, func(done, total int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

// TestDamagedIsCancelled: nor is the rest of a file read after the damage in it.
func TestDamagedIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &cancelling{cancel: cancel}
	if _, _, err := unpackMember(ctx, f, gib, gib, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if f.read > 8*mib {
		t.Errorf("went on for %d bytes", f.read)
	}
}

// cancelling is a file of zeros whose reader loses interest after 4 MiB.
type cancelling struct {
	cancel context.CancelFunc
	read   int64
}

func (c *cancelling) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	if c.read += int64(len(b)); c.read >= 4*mib {
		c.cancel()
	}
	return len(b), nil
}

// TestDifferencesAreBounded: a disk may hold thousands of files that nobody
// expects.
func TestDifferencesAreBounded(t *testing.T) {
	got := map[string][]byte{}
	for i := range 1000 {
		got[fmt.Sprintf("curtin/%03d", i)] = nil
	}
	const want = "curtin/007 does not belong there, and 992 more"
	if diff := comparePayload(got, nil); !strings.HasSuffix(diff, want) || strings.Count(diff, ",") != 8 {
		t.Errorf("differences in %d bytes: %.500s", len(diff), diff)
	}
}

// TestBoundaryInData: what looks like the end of a segment may be the disk's own
// data, for instance a packed image on the disk.
func TestBoundaryInData(t *testing.T) {
	files := payload(20000)
	inner, _ := pack(t, incompressible(t, 2), PackOptions{})
	nested, err := os.ReadFile(inner)
	if err != nil {
		t.Fatal(err)
	}
	disk := customized6(t, files)
	patchFile(t, disk, disk6[3].first*sectorSize, nested)
	image, r := pack(t, disk, PackOptions{})
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unpackSegments(t.Context(), f, r.PackedSize, nil); !errors.Is(err, errOther) {
		t.Fatalf("the nested image did not confuse the cutter (%v), so this tests nothing", err)
	}
	if checks, err := Verify(t.Context(), image, recorded(expected6(files), r), nil); err != nil {
		t.Errorf("%v, %v", checks, err)
	}
}

// TestTinySegmentsAreBounded: a file of millions of segments is not worth its
// memory.
func TestTinySegmentsAreBounded(t *testing.T) {
	b := bytes.Clone(gzipHead)
	for range 20000 {
		b = appendZeroRun(b, 1)
	}
	b = append(append(b, finalBlock...), make([]byte, 8)...)
	if _, err := unpackSegments(t.Context(), bytes.NewReader(b), int64(len(b)), nil); !errors.Is(err, errOther) {
		t.Errorf("err = %v", err)
	}
}

// TestScatteredFileSystem: reading to and fro in a foreign file has its limit.
func TestScatteredFileSystem(t *testing.T) {
	image, r := pack(t, incompressible(t, 2), PackOptions{})
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	x := &index{f: bytes.NewReader(b), size: r.RawSize, marks: []mark{{packed: int64(len(gzipHead))}}}
	disk, buf := x.reader(t.Context()), make([]byte, 1)
	for i := range 300 {
		if _, err = disk.ReadAt(buf, int64(1-i%2)*(r.RawSize-1)); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "too scattered") {
		t.Errorf("err = %v", err)
	}
}

func TestIndexReadsAnywhere(t *testing.T) {
	raw := randomDisk(t, 1003)
	want, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	image, r := pack(t, raw, PackOptions{})
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u, err := unpackSegments(t.Context(), f, r.PackedSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	disk := u.index.reader(t.Context())
	for i := range int64(300) {
		offset := i * 7919 * 4096 % r.RawSize
		b := make([]byte, min(1+i*97, r.RawSize-offset))
		if n, err := disk.ReadAt(b, offset); err != nil || n != len(b) || !bytes.Equal(b, want[offset:][:n]) {
			t.Fatalf("%d bytes at %d: %d, %v", len(b), offset, n, err)
		}
	}
	if n, err := disk.ReadAt(make([]byte, 10), r.RawSize-4); n != 4 || err != io.EOF {
		t.Errorf("across the end: %d, %v", n, err)
	}
	if _, err := disk.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the start")
	}
}

// FuzzUnpackSegments: a stream that is accepted in segments unpacks to the same
// when it is read from one end to the other.
func FuzzUnpackSegments(f *testing.F) {
	image, _ := pack(f, newSparse(f, 3*mib, map[int64][]byte{100: []byte("some data"), 2 * mib: bytes.Repeat([]byte("more data "), 50)}), PackOptions{})
	b, err := os.ReadFile(image)
	if err != nil {
		f.Fatal(err)
	}
	body := b[len(gzipHead) : len(b)-8]
	f.Add(body)
	f.Add(body[bytes.Index(body, boundary)+len(boundary):])
	f.Add(append(appendZeroRun(nil, 1000), finalBlock...))
	stored := append([]byte{0, 3, 0, 0xfc, 0xff, 'a', 'b', 'c', 0}, boundary...)
	f.Add(append(stored, finalBlock...))
	f.Fuzz(func(t *testing.T, body []byte) {
		file := append(append(bytes.Clone(gzipHead), body...), make([]byte, 8)...)
		u, err := unpackSegments(t.Context(), bytes.NewReader(file), int64(len(file)), nil)
		if err != nil {
			return
		}
		r := bytes.NewReader(body)
		inflate := flate.NewReader(r)
		sum := crc32.NewIEEE()
		n, err := io.Copy(sum, io.LimitReader(inflate, 1<<30))
		if err != nil || n != u.index.size || sum.Sum32() != u.crc || r.Len() != 0 {
			t.Errorf("in segments %d bytes with %08x; in one go %d with %08x, %d left, %v", u.index.size, u.crc, n, sum.Sum32(), r.Len(), err)
		}
	})
}

// FuzzVerify: no file makes it panic or run away.
func FuzzVerify(f *testing.F) {
	image, _ := pack(f, small(f, payload(100)), PackOptions{})
	b, err := os.ReadFile(image)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\x1f\x8b\x08\x1e\x00\x00\x00\x00\x00\x03\x02\x00xxname\x00comment\x00cc\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	path := filepath.Join(f.TempDir(), "image")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 12 {
			// Let some of them have a right trailer.
			if u, err := unpackSegments(t.Context(), bytes.NewReader(b), int64(len(b)), nil); err == nil {
				binary.LittleEndian.PutUint32(b[len(b)-8:], u.crc)
				binary.LittleEndian.PutUint32(b[len(b)-4:], uint32(u.index.size))
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		checks, err := Verify(t.Context(), path, Expect{RawSize: 10 * mib}, nil)
		if err != nil && fault.ClassOf(err) != fault.Input {
			t.Errorf("%v, %v", checks, err)
		}
		_ = fmt.Sprint(checks)
	})
}
