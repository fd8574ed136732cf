package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// newFAT makes a file system in a file with mkfs.fat.
func newFAT(t testing.TB, bits, cluster, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fmt.Sprintf("fat%d", bits))
	runTool(t, "mkfs.fat", "--invariant", "-C", "-F", fmt.Sprint(bits), "-s", fmt.Sprint(cluster), path, fmt.Sprint(size/kib))
	return path
}

// openFile opens a file system in a file, in whole.
func openFile(t testing.TB, path string) *fat {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := openFAT(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var fatKinds = []struct{ bits, cluster, size int }{{12, 4, 4 * mib}, {16, 1, 4 * mib}, {16, 128, 300 * mib}, {32, 1, 40 * mib}}

// copyTree writes files into a file system with mtools.
func copyTree(t testing.TB, image string, files map[string][]byte) {
	t.Helper()
	made := map[string]bool{".": true}
	byDir := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var dirs []string
		for dir := filepath.Dir(name); !made[dir]; dir = filepath.Dir(dir) {
			dirs, made[dir] = append(dirs, dir), true
		}
		for _, dir := range slices.Backward(dirs) {
			runTool(t, "mmd", "-i", image, "::/"+dir)
		}
		local := filepath.Join(t.TempDir(), filepath.Base(name))
		if err := os.WriteFile(local, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
		byDir[filepath.Dir(name)] = append(byDir[filepath.Dir(name)], local)
	}
	for _, dir := range slices.Sorted(maps.Keys(byDir)) {
		runTool(t, "mcopy", append(append([]string{"-i", image}, byDir[dir]...), "::/"+dir)...)
	}
}

func TestFATReadsWhatMtoolsWrote(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	files := map[string][]byte{
		"curtin/curtin-hooks": random(70000),
		"curtin/empty":        nil,
		"curtin/UPPER.TXT":    random(1),
		"curtin/lower.txt":    random(511),
		"curtin/Mixed.Txt":    random(512),
		"curtin/a name that is longer than one entry of a name.py": random(513),
		"curtin/deep/er/still/file.json":                           random(4096),
	}
	for i := range 60 { // more than one cluster of directory
		files[fmt.Sprintf("curtin/many/file number %d.txt", i)] = random(i)
	}
	for _, kind := range fatKinds {
		t.Run(fmt.Sprintf("FAT%d of %d MiB", kind.bits, kind.size/mib), func(t *testing.T) {
			image := newFAT(t, kind.bits, kind.cluster, kind.size)
			copyTree(t, image, map[string][]byte{"other/gone.txt": random(3000), "Curtinous": random(3)})
			runTool(t, "mdel", "-i", image, "::/other/gone.txt")
			copyTree(t, image, files) // in the gap and behind it
			f := openFile(t, image)
			if f.bits != kind.bits || f.clusterSize != int64(kind.cluster)*sectorSize {
				t.Errorf("taken for FAT%d with clusters of %d", f.bits, f.clusterSize)
			}
			root, err := f.root()
			if err != nil {
				t.Fatal(err)
			}
			tree, err := f.readHookDir()
			if err != nil {
				t.Fatal(err)
			}
			if len(tree.files) != len(files) {
				t.Errorf("found %d files, want %d", len(tree.files), len(files))
			}
			for name, want := range files {
				if got, ok := tree.files[name]; !ok || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v; want %d", name, len(got), ok, len(want))
				}
			}
			if len(root) != 3 {
				t.Errorf("the root has %+v, want curtin, other and Curtinous", root)
			}
			free, err := f.freeBytes()
			if want := mtoolsFree(t, image); err != nil || free != want {
				t.Errorf("freeBytes = %d, %v; mtools says %d", free, err, want)
			}
		})
	}
}

// mtoolsFree is the room that mdir sees.
func mtoolsFree(t *testing.T, image string) int64 {
	t.Helper()
	m := regexp.MustCompile(`([0-9 ]+) bytes free`).FindStringSubmatch(runTool(t, "mdir", "-i", image, "::/"))
	if m == nil {
		t.Fatal("mdir does not say how much is free")
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(m[1], " ", ""), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpenFATRefuses(t *testing.T) {
	path := newFAT(t, 16, 1, 4*mib)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		offset int
		bytes  []byte
		notFAT bool // or else broken
	}{
		{"sector size 0", 11, []byte{0, 0}, true},
		{"sector size 513", 11, []byte{1, 2}, true},
		{"sector size 32768", 11, []byte{0, 0x80}, true},
		{"no sectors per cluster", 13, []byte{0}, true},
		{"3 sectors per cluster", 13, []byte{3}, true},
		{"no reserved sectors", 14, []byte{0, 0}, true},
		{"no tables", 16, []byte{0}, true},
		{"no root directory", 17, []byte{0, 0}, true},
		{"media", 21, []byte{0x12}, true},
		{"tables larger than the disk", 22, []byte{0xff, 0xff}, true},
		{"larger than the partition", 32, []byte{0xff, 0xff, 0xff, 0xff}, false},
	} {
		b := bytes.Clone(good)
		if tt.name == "larger than the partition" {
			copy(b[19:], "\x00\x00")
		}
		copy(b[tt.offset:], tt.bytes)
		_, err := openFAT(bytes.NewReader(b), int64(len(b)))
		if err == nil || errors.Is(err, errNotFAT) != tt.notFAT {
			t.Errorf("%s: err = %v", tt.name, err)
		}
	}
	if _, err := openFAT(bytes.NewReader(good[:511]), 511); !errors.Is(err, errNotFAT) {
		t.Errorf("511 bytes: %v", err)
	}
	if _, err := openFAT(bytes.NewReader(make([]byte, mib)), mib); !errors.Is(err, errNotFAT) {
		t.Errorf("zeros: %v", err)
	}
}

// hostileFAT has /curtin/file and lets a test change table entries and clusters.
type hostileFAT struct {
	*fat
	image      []byte
	root       []dirEntry
	dir, file  int64 // first clusters
	dirEntries int   // offset in image of the entries of /curtin
}

func newHostileFAT(t *testing.T) *hostileFAT {
	path := newFAT(t, 16, 1, 4*mib)
	copyTree(t, path, map[string][]byte{"curtin/FILE": bytes.Repeat([]byte("x"), 1500)})
	h := &hostileFAT{}
	var err error
	if h.image, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if h.fat, err = openFAT(bytes.NewReader(h.image), int64(len(h.image))); err != nil {
		t.Fatal(err)
	}
	if h.root, err = h.fat.root(); err != nil {
		t.Fatal(err)
	}
	h.dir = h.root[0].cluster
	h.dirEntries = int(h.clusterOffset(h.dir))
	entries, err := h.list(h.dir)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	h.file = entries[0].cluster
	h.pageStart = -1 // forget the table
	return h
}

func (h *hostileFAT) setEntry(cluster int64, value uint16) {
	binary.LittleEndian.PutUint16(h.image[h.tableStart+2*cluster:], value)
}

// fileEntry is the directory entry of FILE, after "." and "..".
func (h *hostileFAT) fileEntry() []byte { return h.image[h.dirEntries+2*dirEntrySize:][:dirEntrySize] }

func TestHostileFAT(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(h *hostileFAT)
		want  string
	}{
		{"file chain ends early", func(h *hostileFAT) { h.setEntry(h.file, 0xffff) }, "its chain ends after 512"},
		{"file chain into free space", func(h *hostileFAT) { h.setEntry(h.file, 0) }, "leads to cluster 0"},
		{"file chain out of range", func(h *hostileFAT) { h.setEntry(h.file, 0xfff0) }, "leads to cluster 65520"},
		{"file starts out of range", func(h *hostileFAT) { binary.LittleEndian.PutUint16(h.fileEntry()[26:], 0xeeee) }, "leads to cluster 61166"},
		{"file of 4 GiB", func(h *hostileFAT) { binary.LittleEndian.PutUint32(h.fileEntry()[28:], 1<<32-1) }, "more than"},
		{"file of 15 MiB in a loop", func(h *hostileFAT) {
			h.setEntry(h.file, uint16(h.file))
			binary.LittleEndian.PutUint32(h.fileEntry()[28:], 15*mib)
		}, ""},
		{"directory in itself", func(h *hostileFAT) {
			e := h.fileEntry()
			e[11] = attrDirectory
			binary.LittleEndian.PutUint16(e[26:], uint16(h.dir))
		}, "nested too deep"},
		{"directory chain in a loop", func(h *hostileFAT) { h.setEntry(h.dir, uint16(h.dir)) }, "twice"},
		{"thousands of directories of 2 MiB", func(h *hostileFAT) {
			h.setEntry(h.dir, uint16(h.dir))
			h.setEntry(h.file, uint16(h.file))
			clear(h.image[h.clusterOffset(h.file):][:h.clusterSize])
			for i := range 14 {
				e := h.image[h.dirEntries+(2+i)*dirEntrySize:]
				copy(e, fmt.Sprintf("DIR%08d", i))
				e[11] = attrDirectory
				binary.LittleEndian.PutUint16(e[26:], uint16(h.file))
			}
		}, "holds more than"},
		{"directory in free space", func(h *hostileFAT) { h.setEntry(h.dir, 0) }, "leads to cluster 0"},
		{"same name twice", func(h *hostileFAT) {
			copy(h.image[h.dirEntries+3*dirEntrySize:], h.fileEntry())
		}, "twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHostileFAT(t)
			tt.spoil(h)
			_, err := h.readHookDir()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
		})
	}
}

// TestEndOfDirectoryIsIgnored: Linux finds entries behind the mark, so curtin would.
func TestEndOfDirectoryIsIgnored(t *testing.T) {
	h := newHostileFAT(t)
	b := h.image[h.rootStart:]
	copy(b[10*dirEntrySize:], b[:dirEntrySize])
	root, err := h.fat.root()
	if err != nil || len(root) != 2 || !root[1].is("curtin") {
		t.Errorf("root = %+v, %v", root, err)
	}
}

// TestHooksAreBounded: a root directory full of them is as wrong as one with two.
func TestHooksAreBounded(t *testing.T) {
	h := newHostileFAT(t)
	b := h.image[h.rootStart:]
	for slot := 1; slot < 100; slot++ {
		copy(b[slot*dirEntrySize:], b[:dirEntrySize])
	}
	if hooks, err := h.hooks(); err != nil || len(hooks) != 2 || cap(hooks) > 4 {
		t.Errorf("%d hooks in room for %d, %v", len(hooks), cap(hooks), err)
	}
}

// TestNames: a long name with the wrong checksum, order or number is dropped and
// the short one stays. What a log or terminal could obey, or a path be misread
// by, is in neither.
func TestNames(t *testing.T) {
	path := newFAT(t, 16, 1, 4*mib)
	copyTree(t, path, map[string][]byte{"a long name of two entries": nil})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := openFile(t, path)
	for _, tt := range []struct {
		name   string
		offset int64
		flip   byte
		want   string
	}{
		{"untouched", 0, 0, "a long name of two entries"},
		{"checksum", 13, 1, "ALONGN~1"},
		{"last mark", 0, 0x40, "ALONGN~1"},
		{"order", 32, 3, "ALONGN~1"},
		{"short name", 64, 1, "@LONGN~1"},
		{"escape", 33, 'a' ^ 0x1b, "\ufffd long name of two entries"},
		{"slash", 35, ' ' ^ '/', "a\ufffdlong name of two entries"},
		{"escape in the short name", 64, 'A' ^ 0x1b, "\ufffdLONGN~1"},
		{"slash in the short name", 65, 'L' ^ '/', "A\ufffdONGN~1"},
	} {
		b := bytes.Clone(good)
		b[f.rootStart+tt.offset] ^= tt.flip
		g, err := openFAT(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		root, err := g.root()
		if err != nil || len(root) != 1 || root[0].name != tt.want {
			t.Errorf("%s: root = %+v, %v; want %s", tt.name, root, err, tt.want)
		}
	}
}

// patched is zeros with something written over them.
type patched map[int64][]byte

func (p patched) ReadAt(b []byte, offset int64) (int, error) {
	clear(b)
	for at, what := range p {
		if from := max(at, offset); from < min(at+int64(len(what)), offset+int64(len(b))) {
			copy(b[from-offset:], what[from-at:])
		}
	}
	return len(b), nil
}

// FuzzFAT reads everything there is in a file system whose first sectors,
// directory and table the fuzzer makes up.
func FuzzFAT(f *testing.F) {
	const size = 40 * mib
	for _, kind := range []struct{ bits, cluster int }{{12, 32}, {16, 8}, {32, 1}} {
		path := newFAT(f, kind.bits, kind.cluster, size)
		copyTree(f, path, map[string][]byte{"curtin/curtin-hooks": []byte("#!"), "curtin/a/b.json": []byte("{}")})
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		fs := openFile(f, path)
		f.Add(b[:128], b[fs.tableStart:][:64], b[fs.rootStart:][:256], b[fs.dataStart:][:4096])
	}
	f.Fuzz(func(t *testing.T, boot, table, root, data []byte) {
		p := patched{0: boot[:min(len(boot), sectorSize)]}
		fs, err := openFAT(p, size)
		if err != nil {
			return
		}
		p[fs.tableStart], p[fs.rootStart], p[fs.dataStart] = table, root, data
		if _, err := fs.freeBytes(); err != nil {
			t.Error(err)
		}
		entries, err := fs.root()
		if err != nil {
			return
		}
		for _, e := range entries[:min(len(entries), 3)] {
			if tree, err := fs.readTree(e.name, e); err == nil && tree.read > maxTreeBytes {
				t.Errorf("read %d bytes", tree.read)
			}
		}
	})
}
