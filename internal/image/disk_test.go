package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Partition types that ESXi uses.
var (
	typeESP      = mustGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	typeBasic    = mustGUID("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7") // boot banks, locker, scratch
	typeVMFS     = mustGUID("AA31E02A-400F-11DB-9590-000C2911D1B8")
	typeCoreDump = mustGUID("9D275380-40AD-11DB-BF97-000C2911D1B8") // before 7.0
	typeOSData   = mustGUID("4EB2EA39-7855-4790-A79E-FAE495E21F8D") // since 7.0
)

func mustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// runTool runs a program that judges or prepares what is tested.
func runTool(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// part is a partition of a test's disk.
type part struct {
	number      int
	first, last int64
	typ         GUID
	fat         int // 12, 16, 32; 0 for no file system
	cluster     int // in sectors
}

const disk6Size = 64 * mib

// disk6 has the first partitions of ESXi 6.x, the others smaller than there.
var disk6 = []part{
	{1, 64, 8191, typeESP, 16, 1},
	{5, 8224, 49183, typeBasic, 16, 2},
	{6, 49216, 90175, typeBasic, 16, 2},
	{7, 90208, 100447, typeCoreDump, 0, 0},
}

// disk7 is what ESXi 7 and later put on a 32 GiB disk.
var disk7 = []part{
	{1, 64, 204863, typeESP, 16, 4},
	{5, 208896, 8595455, typeBasic, 16, 128},
	{6, 8597504, 16984063, typeBasic, 16, 128},
	{7, 16986112, 67108830, typeOSData, 0, 0},
}

// templates are disks made once each, as sgdisk sleeps for a second.
type templates struct {
	dir  string
	mu   sync.Mutex
	once map[string]func() string
}

var disks templates

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(disks.dir)
	os.Exit(code)
}

// newDisk returns a new sparse disk, made with sgdisk and mkfs.fat.
func newDisk(t testing.TB, size int64, parts []part) string {
	t.Helper()
	disks.mu.Lock()
	if disks.dir == "" {
		dir, err := os.MkdirTemp("", "esxid-image-*")
		if err != nil {
			t.Fatal(err)
		}
		disks.dir, disks.once = dir, map[string]func() string{}
	}
	key := fmt.Sprint(size, parts)
	template, ok := disks.once[key]
	if !ok {
		path := filepath.Join(disks.dir, fmt.Sprint(len(disks.once)))
		template = sync.OnceValue(func() string { makeDisk(t, path, size, parts); return path })
		disks.once[key] = template
	}
	disks.mu.Unlock()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := saveRegion(t, template(), 0, size, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func makeDisk(t testing.TB, path string, size int64, parts []part) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	args := []string{"--clear", "--set-alignment=1", "--disk-guid=11111111-2222-4333-8444-555555555555"}
	for _, p := range parts {
		args = append(args, fmt.Sprintf("--new=%d:%d:%d", p.number, p.first, p.last), fmt.Sprintf("--typecode=%d:%s", p.number, p.typ),
			fmt.Sprintf("--partition-guid=%d:11111111-2222-4333-8444-%012d", p.number, p.number))
	}
	if len(parts) > 0 {
		args = append(args, "--attributes=1:set:2")
	}
	runTool(t, "sgdisk", append(args, path)...)
	for _, p := range parts {
		if p.fat != 0 {
			runTool(t, "mkfs.fat", "--invariant", "-F", fmt.Sprint(p.fat), "-s", fmt.Sprint(p.cluster), fmt.Sprintf("--offset=%d", p.first), path, fmt.Sprint((p.last-p.first+1)/2))
		}
	}
}

// at is the name by which mtools finds a partition of a disk.
func (p part) at(disk string) string { return fmt.Sprintf("%s@@%d", disk, p.first*sectorSize) }

func (p part) target(t testing.TB, disk string) Target {
	return Target{openRW(t, disk), p.first * sectorSize}
}

// openRW opens a file for the time of the test.
func openRW(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// saveRegion is SaveRegion for paths.
func saveRegion(t testing.TB, disk string, first, length int64, out string) error {
	t.Helper()
	f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return SaveRegion(t.Context(), openRW(t, disk), first, length, f)
}

func (p part) size() int64 { return (p.last - p.first + 1) * sectorSize }

// extract copies a partition into a file of its own.
func (p part) extract(t testing.TB, disk string) string {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, p.size())
	if _, err := f.ReadAt(b, p.first*sectorSize); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), fmt.Sprintf("partition%d", p.number))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// patchFile writes into a file.
func patchFile(t testing.TB, path string, offset int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

// rawTable is a partition table to be spoilt.
type rawTable struct {
	sectors [34 * sectorSize]byte
}

func (r *rawTable) header() []byte     { return r.sectors[sectorSize:][:gptHeaderSize] }
func (r *rawTable) entry(i int) []byte { return r.sectors[2*sectorSize+i*gptEntrySize:][:gptEntrySize] }
func (r *rawTable) bytes() *bytes.Reader {
	return bytes.NewReader(r.sectors[:])
}

// seal makes the checksums right.
func (r *rawTable) seal() {
	h := r.header()
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(r.sectors[2*sectorSize:]))
	binary.LittleEndian.PutUint32(h[16:], 0)
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}

// readRawTable reads the first sectors of a disk.
func readRawTable(t testing.TB, disk string) *rawTable {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r rawTable
	if _, err := f.ReadAt(r.sectors[:], 0); err != nil {
		t.Fatal(err)
	}
	return &r
}
