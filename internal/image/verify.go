package image

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/esxid/esxid/internal/fault"
	"golang.org/x/sys/unix"
)

// Expect is what a packed image should be. What is zero or nil is not compared.
type Expect struct {
	RawSize    int64
	PackedSize int64
	SHA256     string
	Partitions []ExpectedPartition
	Files      []FileSum // all of the files below /curtin
}

// FileSum is a file by its content, as a manifest records it.
type FileSum struct {
	Path   string `json:"path"` // as in PayloadFile
	SHA256 string `json:"sha256"`
}

// Sums returns what Verify needs to recognise files.
func Sums(files []PayloadFile) []FileSum {
	var sums []FileSum
	for _, f := range files {
		sums = append(sums, FileSum{f.Path, hexSum(f.Data)})
	}
	return sums
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ExpectedPartition is a partition that must be there.
type ExpectedPartition struct {
	Number      int
	Type        GUID
	First, Last int64 // LBA; 0 means any
	FAT         bool  // it holds a FAT file system
	Optional    bool  // it may be absent
}

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // one line for people
}

// hookDir is the directory by which a deployment recognises the file system
// that holds its hooks.
const hookDir = "curtin"

// Verify reads a packed image back, in one pass, as a deployment would, and
// compares it with what it should be. It returns every check that could be
// made; the error is a fault.Input if any of them failed.
func Verify(ctx context.Context, path string, e Expect, progress func(done, total int64)) ([]Check, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot verify %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot verify %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Input, "cannot verify %s: it is not a regular file", path)
	}
	v := &verifier{expect: e}
	if err := v.run(ctx, f, info.Size(), progress); err != nil {
		return nil, fmt.Errorf("cannot verify %s: %w", path, err)
	}
	var bad []string
	for _, c := range v.checks {
		if !c.OK {
			bad = append(bad, c.Name+": "+c.Detail)
		}
	}
	if len(bad) > 0 {
		return v.checks, fault.New(fault.Input, "%s cannot be used: %s", path, strings.Join(bad, "; "))
	}
	return v.checks, nil
}

type verifier struct {
	expect Expect
	checks []Check
}

func (v *verifier) add(name string, ok bool, format string, args ...any) bool {
	v.checks = append(v.checks, Check{name, ok, fmt.Sprintf(format, args...)})
	return ok
}

// run makes the checks. An error is one of reading, not of what was read.
func (v *verifier) run(ctx context.Context, f *os.File, size int64, progress func(done, total int64)) error {
	u, damage, err := v.unpack(ctx, f, size, progress)
	if err != nil {
		return err
	}
	whole := v.checkGzip(u, damage, size)
	v.checkRecord("packed size", size, v.expect.PackedSize, v.expect.PackedSize != 0)
	v.checkRecord("sha256", u.sha256, v.expect.SHA256, v.expect.SHA256 != "")
	if !whole {
		return nil
	}
	v.checkRecord("raw size", u.index.size, v.expect.RawSize, v.expect.RawSize != 0)
	disk := u.index.reader(ctx)
	table, err := ReadTable(disk, u.index.size)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		v.add("partition table", false, "%v", err)
		return nil
	}
	v.add("partition table", true, "valid, for disks of at least %s", formatSize((table.AlternateLBA+1)*sectorSize))
	v.checkFileSystems(disk, u.index.size, table)
	return ctx.Err()
}

func (v *verifier) unpack(ctx context.Context, f *os.File, size int64, progress func(done, total int64)) (u *unpacked, damage, err error) {
	u, err = unpackSegments(ctx, f, size, progress)
	if !errors.Is(err, errOther) {
		return u, nil, err
	}
	limit := int64(maxRaw)
	if v.expect.RawSize != 0 {
		limit = v.expect.RawSize
	}
	return unpackMember(ctx, f, size, limit, progress)
}

func (v *verifier) checkGzip(u *unpacked, damage error, size int64) bool {
	const name = "gzip"
	crc, length := binary.LittleEndian.Uint32(u.trailer[:4]), binary.LittleEndian.Uint32(u.trailer[4:])
	switch {
	case damage != nil:
		return v.add(name, false, "%v", damage)
	case crc != u.crc:
		return v.add(name, false, "it unpacks to something with the checksum %08x, it should be %08x", u.crc, crc)
	case length != uint32(u.index.size):
		return v.add(name, false, "it unpacks to %d bytes, which is not %d modulo 2^32", u.index.size, length)
	}
	return v.add(name, true, "complete, one member, %s unpack to %s", formatSize(size), formatSize(u.index.size))
}

func (v *verifier) checkRecord(name string, got, want any, recorded bool) {
	switch {
	case !recorded:
		v.add(name, true, "%v", got)
	case got == want:
		v.add(name, true, "%v, as recorded", got)
	default:
		v.add(name, false, "%v, but %v is recorded", got, want)
	}
}

// fileSystem is a FAT file system on the disk, or why it cannot be read. No more
// of its root directory is kept: a table has room for a thousand partitions with
// long ones.
type fileSystem struct {
	fat   *fat
	hooks []dirEntry // see fat.hooks
	err   error
}

func (v *verifier) checkFileSystems(disk io.ReaderAt, size int64, table *Table) {
	found := map[int]fileSystem{}
	for _, p := range table.Partitions {
		if p.Offset() >= size {
			continue // never written
		}
		var fs fileSystem
		fs.fat, fs.err = openFAT(io.NewSectionReader(disk, p.Offset(), p.Size()), p.Size())
		if fs.err == nil {
			fs.hooks, fs.err = fs.fat.hooks()
		}
		if !errors.Is(fs.err, errNotFAT) {
			found[p.Number] = fs
		}
	}
	v.checkPartitions(table, found)
	v.checkHook(found)
}

func (v *verifier) checkPartitions(table *Table, found map[int]fileSystem) {
	var bad, have []string
	for _, p := range table.Partitions {
		have = append(have, fmt.Sprint(p.Number))
	}
	for _, e := range v.expect.Partitions {
		p, ok := table.Partition(e.Number)
		fs, isFAT := found[e.Number]
		switch {
		case !ok && e.Optional:
		case !ok:
			bad = append(bad, fmt.Sprintf("%d is missing", e.Number))
		case p.Type != e.Type:
			bad = append(bad, fmt.Sprintf("%d is of type %s, not %s", e.Number, p.Type, e.Type))
		case e.First != 0 && p.First != e.First, e.Last != 0 && p.Last != e.Last:
			bad = append(bad, fmt.Sprintf("%d is from %d to %d, not from %d to %d", e.Number, p.First, p.Last, e.First, e.Last))
		case e.FAT && !isFAT:
			bad = append(bad, fmt.Sprintf("%d holds no FAT file system", e.Number))
		case e.FAT && fs.err != nil:
			bad = append(bad, fmt.Sprintf("%d cannot be read: %v", e.Number, fs.err))
		}
	}
	if len(bad) > 0 {
		v.add("partitions", false, "%s (there are %s)", strings.Join(bad, ", "), strings.Join(have, ", "))
		return
	}
	v.add("partitions", true, "%s", strings.Join(have, ", "))
}

// checkHook looks for /curtin in every file system. The deployment takes the
// last one that has it, so there must be only one.
func (v *verifier) checkHook(found map[int]fileSystem) {
	const name = "hook partition"
	var where []int
	for _, number := range slices.Sorted(maps.Keys(found)) {
		fs := found[number]
		if fs.err != nil {
			v.add(name, false, "cannot search partition %d: %v", number, fs.err)
			return
		}
		for range fs.hooks {
			where = append(where, number)
		}
	}
	switch len(where) {
	case 0:
		v.add(name, false, "no partition has a directory /%s: the payload is missing, customize the disk again", hookDir)
		return
	case 1:
		v.add(name, true, "partition %d, and no other, has /%s", where[0], hookDir)
	default:
		v.add(name, false, "/%s is there %d times, in partitions %v: a deployment would use the last", hookDir, len(where), where)
		return
	}
	v.checkPayload(found[where[0]])
}

func (v *verifier) checkPayload(fs fileSystem) {
	const name = "payload"
	got, err := fs.fat.readTree(hookDir, fs.hooks[0])
	if err != nil {
		v.add(name, false, "%v", err)
		return
	}
	if v.expect.Files == nil {
		hook := hookDir + "/curtin-hooks"
		v.add(name, len(got.files[hook]) > 0, "%s has %d bytes", hook, len(got.files[hook]))
		return
	}
	if diff := comparePayload(got.files, v.expect.Files); diff != "" {
		v.add(name, false, "%s", diff)
		return
	}
	v.add(name, true, "%d files as written", len(got.files))
}

// comparePayload says in what a tree of files differs from what it should be, in
// bounded length.
func comparePayload(got map[string][]byte, want []FileSum) string {
	var diff []string
	names := map[string]bool{}
	for _, f := range want {
		names[f.Path] = true
		data, ok := got[f.Path]
		switch {
		case !ok:
			diff = append(diff, f.Path+" is missing")
		case hexSum(data) != f.SHA256:
			diff = append(diff, fmt.Sprintf("%s (%d bytes) is not what was written", f.Path, len(data)))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if !names[path] {
			diff = append(diff, path+" does not belong there")
		}
	}
	const most = 8
	if len(diff) > most {
		diff = append(diff[:most], fmt.Sprintf("and %d more", len(diff)-most))
	}
	return strings.Join(diff, ", ")
}

// formatSize writes a size for people, with the exact number.
func formatSize(n int64) string {
	switch {
	case n >= gib:
		return fmt.Sprintf("%.2f GiB (%d bytes)", float64(n)/gib, n)
	case n >= mib:
		return fmt.Sprintf("%.2f MiB (%d bytes)", float64(n)/mib, n)
	case n >= kib:
		return fmt.Sprintf("%.1f KiB (%d bytes)", float64(n)/kib, n)
	}
	return fmt.Sprintf("%d bytes", n)
}
