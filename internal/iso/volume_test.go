package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// TestCutShort cuts an ISO at each of its sectors, in the middle of some, and
// once more with a volume size that hides the cut, so that the extents must
// show it.
func TestCutShort(t *testing.T) {
	whole := sampleISO(t)
	if _, _, err := identify(t, whole); err != nil {
		t.Fatal(err)
	}
	for _, extra := range []int{0, 1, 1000} {
		for at := extra; at < len(whole); at += sectorSize {
			_, err := inMemory(whole[:at])
			checkError(t, err, fault.Input, "again") // copy or download it again
		}
	}
	end := lastExtent(t, whole)
	for at := 0; at < end; at += sectorSize {
		cut := bytes.Clone(whole[:at])
		if at > firstDescriptor*sectorSize {
			putBoth32(cut[firstDescriptor*sectorSize+pvdVolumeSize:], uint32(at/sectorSize))
		}
		_, err := inMemory(cut)
		checkError(t, err, fault.Input, "again")
	}
}

// lastExtent returns where the last file of an image ends, rounded up.
func lastExtent(t *testing.T, iso []byte) int {
	t.Helper()
	img, err := inMemory(iso)
	if err != nil {
		t.Fatal(err)
	}
	var end int64
	var walk func(n *node)
	walk = func(n *node) {
		if n.size > 0 {
			end = max(end, n.offset()+roundUp(n.size))
		}
		for _, child := range n.children {
			walk(child)
		}
	}
	walk(img.root)
	return int(end)
}

// TestHostileTrees changes single fields of a good image.
func TestHostileTrees(t *testing.T) {
	good := sampleISO(t)
	img, err := inMemory(good)
	if err != nil {
		t.Fatal(err)
	}
	record := func(path string) int64 {
		n, err := img.lookup(path)
		if err != nil {
			t.Fatal(err)
		}
		return n.record
	}
	const pvd = firstDescriptor * sectorSize
	catalog := int64(binary.LittleEndian.Uint32(good[(firstDescriptor+1)*sectorSize+catalogPointer:])) * sectorSize
	tests := []struct {
		name   string
		change func(b []byte)
		want   string
	}{
		{"block size", func(b []byte) { putBoth16(b[pvd+pvdBlockSize:], 512) }, "its block size is 512"},
		{"volume size", func(b []byte) { putBoth32(b[pvd+pvdVolumeSize:], uint32(len(b)/sectorSize+1)) }, "it is cut short: its volume ends at"},
		{"no terminator", func(b []byte) { b[18*sectorSize] = 7 }, "not an ISO 9660 image"},
		{"no primary descriptor", func(b []byte) { b[pvd] = 2 }, "not an ISO 9660 image"},
		{"root is a file", func(b []byte) { b[pvd+pvdRoot+recordFlags] = 0 }, "its root directory is not a directory"},
		{"root outside", func(b []byte) { putBoth32(b[pvd+pvdRoot+recordExtent:], 1<<31) }, "its directory / ends at byte"},
		{"root too long", func(b []byte) { putBoth32(b[pvd+pvdRoot+recordLength:], 0xffffffff) }, "its directory / ends at byte"},
		{"file outside", func(b []byte) { putBoth32(b[record("K.B00")+recordExtent:], 0xffffffff) }, "its file /K.B00 ends at byte"},
		{"directory outside", func(b []byte) { putBoth32(b[record("EFI/BOOT")+recordExtent:], 0xffffffff) }, "its directory /EFI/BOOT ends"},
		{"directory loop", func(b []byte) { copy(b[record("EFI/BOOT")+recordExtent:], good[pvd+pvdRoot+recordExtent:][:16]) },
			"its directory /EFI/BOOT is part of a loop"},
		{"record crosses sector", func(b []byte) { b[record("EFI/BOOT")] = 255; b[record("EFI/BOOT")+recordNameLength] = 255 }, "/EFI is malformed"},
		{"record too short", func(b []byte) { b[record("EFI/BOOT")] = 20 }, "a record in its directory /EFI is malformed"},
		{"name too long", func(b []byte) { b[record("EFI/BOOT")+recordNameLength] = 200 }, "/EFI is malformed"},
		{"catalog outside", func(b []byte) { b[(firstDescriptor+1)*sectorSize+catalogPointer+3] = 0xff }, "its boot catalog ends at byte"},
		{"catalog damaged", func(b []byte) { b[catalog+30] = 0 }, "its boot catalog is damaged"},
		{"boot image outside", func(b []byte) { b[catalog+entrySize+8+3] = 0x7f }, "a boot image ends at byte"},
		{"UEFI image outside", func(b []byte) { b[catalog+3*entrySize+8+3] = 0x7f }, "a boot image ends at byte"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(good)
			tt.change(b)
			_, err := inMemory(b)
			checkError(t, err, fault.Input, tt.want)
		})
	}
}

// TestOddFiles looks at files that can be listed but not read.
func TestOddFiles(t *testing.T) {
	good := sampleISO(t)
	img, err := inMemory(good)
	if err != nil {
		t.Fatal(err)
	}
	n, err := img.lookup("BOOT.CFG")
	if err != nil {
		t.Fatal(err)
	}
	other, err := img.lookup("GC.V00")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(b []byte)
		want   string
	}{
		{"multi-extent", func(b []byte) { b[n.record+recordFlags] |= flagMultiExtent }, "it consists of several extents"},
		{"interleaved", func(b []byte) { b[n.record+recordUnitSize] = 1 }, "it is interleaved"},
		{"extended attributes", func(b []byte) { b[n.record+recordExtended] = 1 }, "has extended attributes"},
		{"twice", func(b []byte) { copy(b[n.record+recordName:], "GC.V00;1") }, "cannot find /BOOT.CFG"},
		{"another of the name", func(b []byte) {
			b[other.record+recordNameLength] = 8
			copy(b[other.record+recordName:], "K.B00;\x00\x00")
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(good)
			tt.change(b)
			img, err := inMemory(b)
			if err != nil {
				t.Fatal(err)
			}
			path, want := "BOOT.CFG", tt.want
			if want == "" {
				path, want = "K.B00", "its directory has two records of that name"
			}
			_, err = img.ReadFile(path, 1<<20)
			checkError(t, err, fault.Input, want)
		})
	}
}

// directories builds an image from directory extents, given as lists of records;
// the first is the root and begins at sector 20.
func directories(extents ...[][]byte) []byte {
	b, err := Single("X", "X", nil)
	if err != nil {
		panic(err)
	}
	b = b[:singleRoot*sectorSize]
	for _, records := range extents {
		sector := make([]byte, 0, sectorSize)
		flush := func() {
			b = append(b, sector...)
			b = append(b, make([]byte, sectorSize-len(sector))...)
			sector = sector[:0]
		}
		for _, r := range records {
			if len(sector)+len(r) > sectorSize {
				flush()
			}
			sector = append(sector, r...)
		}
		flush()
	}
	return b
}

// TestTreeBounds builds images that are well-formed and too much.
func TestTreeBounds(t *testing.T) {
	deep := make([][][]byte, maxDepth+1)
	for i := range deep {
		deep[i] = [][]byte{directoryRecord("D", flagDirectory, uint32(singleRoot+i+1), sectorSize)}
	}
	deep[maxDepth] = nil

	many := make([][]byte, maxEntries+1)
	for i := range many {
		many[i] = directoryRecord(fmt.Sprintf("%06d", i), 0, 0, 0)
	}
	broad := directories(many)
	putBoth32(broad[firstDescriptor*sectorSize+pvdRoot+recordLength:], uint32(len(broad)-singleRoot*sectorSize))

	// Two directories, one inside the other's extent, and longer together
	// than the bound.
	const length = maxDirectory/2 + sectorSize
	long := append(directories([][]byte{
		directoryRecord("A", flagDirectory, singleRoot+1, length),
		directoryRecord("B", flagDirectory, singleRoot+2, length),
	}), make([]byte, length+sectorSize)...)

	for _, tt := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"deep", directories(deep...), fmt.Sprintf("nested more than %d deep", maxDepth)},
		{"many files", broad, fmt.Sprintf("more than %d files", maxEntries)},
		{"long directories", long, fmt.Sprintf("its directories have more than %d bytes", maxDirectory)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bounded(t, tt.image)
			checkError(t, err, fault.Input, tt.want)
		})
	}
}

// bounded runs everything that can be done with an image and fails the test if
// that takes much memory or time. It returns Identify's or parse's error.
func bounded(t *testing.T, image []byte) (Info, error) {
	t.Helper()
	const (
		maxAllocated = 128 << 20
		maxTime      = 20 * time.Second // a machine may be busy; usual is a millisecond
	)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	info, err := use(t, image)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > maxAllocated {
		t.Errorf("%d bytes were allocated for an image of %d", n, len(image))
	}
	if took := time.Since(start); took > maxTime {
		t.Errorf("it took %v", took)
	}
	return info, err
}

func use(t *testing.T, image []byte) (Info, error) {
	img, err := inMemory(image)
	if err != nil {
		return Info{}, err
	}
	if patch, err := img.PatchBootConfig(BootOptions{Add: []string{"ks=cdrom:/KS.CFG"}, Remove: []string{"cdromBoot"}}); err == nil {
		checkPatchShape(t, img, patch)
	}
	info, _, err := Identify(t.Context(), img)
	return info, err
}

// TestMutatedImages damages the parts of an image that are parsed at random. The
// sequence of random numbers is fixed.
func TestMutatedImages(t *testing.T) {
	good := sampleISO(t)
	places := parsedPlaces(t, good)
	random := rand.New(rand.NewPCG(1, 2))
	const images = 2000
	var refused int
	b := bytes.Clone(good)
	for range images {
		for range 1 + random.IntN(3) {
			at := places[random.IntN(len(places))]
			if random.IntN(2) == 0 {
				b[at] ^= 1 << random.IntN(8)
			} else {
				b[at] = byte(random.Uint32())
			}
		}
		info, err := use(t, b)
		if err != nil {
			refused++
			if fault.ClassOf(err) != fault.Input {
				t.Errorf("the class of %q is %d", err, fault.ClassOf(err))
			}
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) || len(err.Error()) > 4096 {
				t.Errorf("the error is not fit to print: %q", err)
			}
		} else if !versionText.MatchString(info.Version) || !buildText.MatchString(info.Build) {
			t.Errorf("accepted as %+v", info)
		}
		for _, at := range places {
			b[at] = good[at]
		}
	}
	t.Logf("%d of %d images were refused", refused, images)
	if refused < images/4 || refused == images {
		t.Error("the damage is too small or too large to tell anything")
	}
}

// parsedPlaces returns the offsets of the bytes that decide how an image is
// read: descriptors, catalog, directory records, and the text files.
func parsedPlaces(t testing.TB, iso []byte) []int {
	t.Helper()
	img, err := inMemory(iso)
	if err != nil {
		t.Fatal(err)
	}
	var places []int
	add := func(from, length int64) {
		for at := from; at < from+length; at++ {
			places = append(places, int(at))
		}
	}
	add(firstDescriptor*sectorSize, 200)
	add((firstDescriptor+1)*sectorSize, 100)
	catalog := binary.LittleEndian.Uint32(iso[(firstDescriptor+1)*sectorSize+catalogPointer:])
	add(sectors(catalog), 5*entrySize)
	var walk func(n *node)
	walk = func(n *node) {
		if n.parent != nil {
			add(n.record, int64(iso[n.record]))
		}
		for _, child := range n.children {
			walk(child)
		}
	}
	walk(img.root)
	for _, path := range []string{"BOOT.CFG", "EFI/BOOT/BOOT.CFG", ".DISCINFO", "VMWARE-ESX-BASE-OSL.TXT", "UPGRADE/METADATA.XML", "UPGRADE/PROFILE.XML"} {
		n, err := img.lookup(path)
		if err != nil {
			t.Fatal(err)
		}
		add(n.offset(), n.size)
	}
	return places
}

// FuzzImage changes bytes of an image: edits is a list of three-byte places in
// what is parsed, and the byte to put there.
func FuzzImage(f *testing.F) {
	good := sampleISO(f)
	places := parsedPlaces(f, good)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 80, 255, 0, 1, 44, 0x90})
	f.Fuzz(func(t *testing.T, edits []byte) {
		b := bytes.Clone(good)
		for ; len(edits) >= 4; edits = edits[4:] {
			at := int(edits[0])<<16 | int(edits[1])<<8 | int(edits[2])
			b[places[at%len(places)]] = edits[3]
		}
		bounded(t, b)
	})
}

// FuzzStructure gives the reader bytes for everything from the root directory
// on.
func FuzzStructure(f *testing.F) {
	f.Add([]byte{}, uint32(sectorSize))
	f.Add(bytes.Join([][]byte{
		directoryRecord("A", flagDirectory, singleRoot, sectorSize),
		directoryRecord("BOOT.CFG;1", 0, singleRoot, 10),
	}, nil), uint32(sectorSize))
	f.Fuzz(func(t *testing.T, data []byte, rootSize uint32) {
		b, err := Single("X", "X", data[:min(len(data), maxSingle)])
		if err != nil {
			t.Fatal(err)
		}
		root := b[firstDescriptor*sectorSize+pvdRoot:]
		putBoth32(root[recordExtent:], singleData)
		putBoth32(root[recordLength:], rootSize)
		bounded(t, b)
	})
}
