package image

import (
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf16"
)

const (
	dirEntrySize = 32
	// maxDirSize is what the specification allows for a directory.
	maxDirSize = 65536 * dirEntrySize

	attrVolume    = 0x08
	attrDirectory = 0x10
	attrLongName  = 0x0f

	longNameUnits   = 13 // UTF-16 units in an entry
	maxLongNameSlot = 20
)

// dirEntry is a file or directory. Both names find it, in any case.
type dirEntry struct {
	name    string // the long name, or else the short one
	short   string // 8.3
	dir     bool
	cluster int64 // 0 for an empty file
	size    int64
}

func (e dirEntry) is(name string) bool {
	return strings.EqualFold(e.name, name) || strings.EqualFold(e.short, name)
}

// root lists the root directory.
func (f *fat) root() ([]dirEntry, error) {
	if f.bits == 32 {
		return f.list(f.rootCluster)
	}
	data := make([]byte, f.rootSize)
	if _, err := f.r.ReadAt(data, f.rootStart); err != nil {
		return nil, fmt.Errorf("cannot read the root directory: %w", err)
	}
	return f.parse(data), nil
}

// list lists the directory that begins at a cluster.
func (f *fat) list(cluster int64) ([]dirEntry, error) {
	data, err := f.readChain(cluster, maxDirSize)
	if err != nil {
		return nil, err
	}
	return f.parse(data), nil
}

// parse reads directory entries. Like Linux it does not stop at the entry
// that says "none beyond": what the deployment sees is what counts.
func (f *fat) parse(data []byte) []dirEntry {
	var out []dirEntry
	var long longName
	for ; len(data) >= dirEntrySize; data = data[dirEntrySize:] {
		b := data[:dirEntrySize]
		attr := b[11]
		switch {
		case b[0] == 0xe5 || b[0] == 0:
			long = longName{}
		case attr&0x3f == attrLongName:
			long.add(b)
		case attr&attrVolume != 0:
			long = longName{}
		default:
			e := dirEntry{
				short:   shortName(b),
				dir:     attr&attrDirectory != 0,
				cluster: int64(binary.LittleEndian.Uint16(b[26:])),
				size:    int64(binary.LittleEndian.Uint32(b[28:])),
			}
			if f.bits == 32 { // elsewhere these two bytes are something else
				e.cluster |= int64(binary.LittleEndian.Uint16(b[20:])) << 16
			}
			if e.name = long.text(b[:11]); e.name == "" {
				e.name = e.short
			}
			long = longName{}
			if e.short != "." && e.short != ".." {
				out = append(out, e)
			}
		}
	}
	return out
}

// shortName turns an entry's 11 bytes into "NAME.EXT". Two flags, an invention
// of Windows NT that mtools and Linux share, say that a part is in lower case.
// Bytes above ASCII belong to a code page nobody knows; they become U+FFFD, and
// so does what no name can have and a log or terminal could obey.
func shortName(entry []byte) string {
	part := func(b []byte, lower bool) string {
		s := strings.TrimRight(strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' || r == '/' {
				return '\ufffd'
			}
			return r
		}, string(b)), " ")
		if lower {
			return strings.ToLower(s)
		}
		return s
	}
	name, ext := part(entry[:8], entry[12]&0x08 != 0), part(entry[8:11], entry[12]&0x10 != 0)
	if ext != "" {
		return name + "." + ext
	}
	return name
}

// longName collects the entries that come before a short one, last part first.
type longName struct {
	parts    [][]uint16
	next     int // number of the part that must come next
	checksum byte
}

func (l *longName) add(b []byte) {
	number := int(b[0] &^ 0x40)
	if b[0]&0x40 != 0 {
		*l = longName{next: number, checksum: b[13]}
	}
	if number == 0 || number > maxLongNameSlot || number != l.next || b[13] != l.checksum {
		*l = longName{}
		return
	}
	units := make([]uint16, 0, longNameUnits)
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := span[0]; i < span[1]; i += 2 {
			units = append(units, binary.LittleEndian.Uint16(b[i:]))
		}
	}
	l.parts = append(l.parts, units)
	l.next--
}

// text returns the name if all parts were there and belong to the short name,
// with the same care for what cannot be printed.
func (l *longName) text(short []byte) string {
	if len(l.parts) == 0 || l.next != 0 {
		return ""
	}
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if sum != l.checksum {
		return ""
	}
	var units []uint16
	for i := len(l.parts) - 1; i >= 0; i-- {
		units = append(units, l.parts[i]...)
	}
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return strings.Map(func(r rune) rune {
		if r == '/' || !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, string(utf16.Decode(units)))
}

// readFile reads a file of at most limit bytes.
func (f *fat) readFile(e dirEntry, limit int64) ([]byte, error) {
	if e.size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", e.name, e.size, limit)
	}
	if e.size == 0 {
		return nil, nil
	}
	data, err := f.readChain(e.cluster, e.size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.name, err)
	}
	if int64(len(data)) < e.size {
		return nil, fmt.Errorf("%s has %d bytes, but its chain ends after %d", e.name, e.size, len(data))
	}
	return data, nil
}

const (
	maxTreeDepth = 8
	maxTreeFiles = 4096
	maxTreeBytes = 16 * mib
)

// tree is a directory with everything below it.
type tree struct {
	files     map[string][]byte // by path
	dirs      int
	read      int64 // bytes of files and directories
	allocated int64 // bytes of the clusters they take
}

func (f *fat) readTree(name string, dir dirEntry) (*tree, error) {
	t := &tree{files: map[string][]byte{}}
	return t, f.walk(t, name, dir, maxTreeDepth)
}

func (f *fat) walk(t *tree, name string, dir dirEntry, depth int) error {
	if depth == 0 {
		return fmt.Errorf("%s is nested too deep", name)
	}
	data, err := f.readChain(dir.cluster, min(maxDirSize, maxTreeBytes-t.read))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.dirs++
	t.read += int64(len(data))
	t.allocated += f.roundUp(int64(len(data)))
	for _, e := range f.parse(data) {
		full := path.Join(name, e.name)
		if len(t.files)+t.dirs >= maxTreeFiles || t.read >= maxTreeBytes {
			return fmt.Errorf("%s holds more than %d files or %d MiB", name, maxTreeFiles, maxTreeBytes/mib)
		}
		if e.dir {
			if err := f.walk(t, full, e, depth-1); err != nil {
				return err
			}
			continue
		}
		if _, twice := t.files[full]; twice {
			return fmt.Errorf("%s is there twice", full)
		}
		data, err := f.readFile(e, maxTreeBytes-t.read)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t.read += e.size
		t.allocated += f.roundUp(e.size)
		t.files[full] = data
	}
	return nil
}

// roundUp returns how much room size bytes take.
func (f *fat) roundUp(size int64) int64 {
	return (size + f.clusterSize - 1) / f.clusterSize * f.clusterSize
}
