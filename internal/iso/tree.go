package iso

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

// Bounds of a directory tree. An installer ISO has four directories, 200 files
// and less than 16 KiB of directory records.
const (
	maxDepth     = 16
	maxEntries   = 100_000
	maxDirectory = 16 << 20 // bytes in all directories together
)

// Places in a directory record (ECMA-119 9.1).
const (
	recordExtended   = 1
	recordExtent     = 2 // both byte orders: 4 bytes little-endian, 4 big-endian
	recordLength     = 10
	recordFlags      = 25
	recordUnitSize   = 26
	recordNameLength = 32
	recordName       = 33

	flagDirectory   = 0x02
	flagAssociated  = 0x04
	flagMultiExtent = 0x80
)

// node is a file or directory.
type node struct {
	name   string // without version number and empty extension
	parent *node
	dir    bool
	lba    uint32
	size   int64
	record int64 // where its directory record stands in the image
	// odd says why the file cannot be read as one plain extent, "" if it can.
	odd      string
	children map[string]*node // by upper-case name
}

func (n *node) offset() int64 { return sectors(n.lba) }

// path returns the node's path without a leading slash.
func (n *node) path() string {
	if n.parent == nil || n.parent.parent == nil {
		return n.name
	}
	return n.parent.path() + "/" + n.name
}

// lookup finds a file or directory by its path.
func (img *Image) lookup(path string) (*node, error) {
	n := img.root
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		n = n.children[key(name)]
		if n == nil {
			return nil, fault.New(fault.Input, "cannot find /%s in %s", strings.Trim(path, "/"), img.path)
		}
	}
	if n.odd != "" {
		return nil, fault.New(fault.Input, "cannot read /%s in %s: %s", n.path(), img.path, n.odd)
	}
	return n, nil
}

func key(name string) string { return strings.ToUpper(name) }

// treeReader reads a directory tree within its bounds.
type treeReader struct {
	img     *Image
	entries int
	bytes   int64
	seen    map[uint32]bool // directories, by where they begin
}

// readTree reads the tree below the root's directory record.
func (img *Image) readTree(record []byte) (*node, error) {
	root := newNode(record, 0, nil)
	if !root.dir {
		return nil, img.damaged("its root directory is not a directory")
	}
	t := treeReader{img: img, seen: map[uint32]bool{}}
	return root, t.readDirectory(root, 1)
}

// newNode reads a directory record at offset at. The bytes in little-endian
// order are used: all loaders on x86 do so, and some authoring programs are
// careless with the others.
func newNode(record []byte, at int64, parent *node) *node {
	n := &node{
		parent: parent,
		dir:    record[recordFlags]&flagDirectory != 0,
		lba:    binary.LittleEndian.Uint32(record[recordExtent:]),
		size:   int64(binary.LittleEndian.Uint32(record[recordLength:])),
		record: at,
	}
	switch {
	case record[recordExtended] != 0, record[recordUnitSize] != 0:
		n.odd = "it is interleaved or has extended attributes"
	case record[recordFlags]&flagMultiExtent != 0:
		n.odd = "it consists of several extents"
	}
	return n
}

func (t *treeReader) readDirectory(dir *node, depth int) error {
	img := t.img
	t.bytes += dir.size
	switch {
	case depth > maxDepth:
		return img.damaged(fmt.Sprintf("its directories are nested more than %d deep", maxDepth))
	case t.seen[dir.lba]:
		return img.damaged(fmt.Sprintf("its directory /%s is part of a loop", dir.path()))
	case dir.offset()+dir.size > img.size:
		return img.cutShort("its directory /"+dir.path(), dir.offset()+dir.size)
	case t.bytes > maxDirectory:
		return img.damaged(fmt.Sprintf("its directories have more than %d bytes", maxDirectory))
	}
	t.seen[dir.lba] = true
	data, err := img.read(dir.offset(), dir.size)
	if err != nil {
		return err
	}
	dir.children = map[string]*node{}
	for at := 0; at < len(data); {
		length := int(data[at])
		room := min(len(data), at-at%sectorSize+sectorSize) - at
		if length == 0 {
			// The rest of the sector is unused: records do not cross
			// sector boundaries (ECMA-119 6.8.1.1).
			at += room
			continue
		}
		if length > room || length <= recordName || recordName+int(data[at+recordNameLength]) > length {
			return img.damaged(fmt.Sprintf("a record in its directory /%s is malformed", dir.path()))
		}
		if err := t.add(dir, data[at:at+length], dir.offset()+int64(at), depth); err != nil {
			return err
		}
		at += length
	}
	return nil
}

// add adds the file or directory of a record to its directory.
func (t *treeReader) add(dir *node, record []byte, at int64, depth int) error {
	name := string(record[recordName : recordName+int(record[recordNameLength])])
	if name == "\x00" || name == "\x01" || record[recordFlags]&flagAssociated != 0 {
		return nil // the directory itself, its parent, or a resource fork
	}
	if t.entries++; t.entries > maxEntries {
		return t.img.damaged(fmt.Sprintf("it has more than %d files", maxEntries))
	}
	n := newNode(record, at, dir)
	name, _, _ = strings.Cut(name, ";")
	n.name = printable(strings.TrimSuffix(name, "."))
	if end := n.offset() + n.size; !n.dir && n.size > 0 && end > t.img.size {
		return t.img.cutShort("its file /"+n.path(), end)
	}
	if first := dir.children[key(n.name)]; first != nil {
		// Which of them a loader would take is anybody's guess.
		first.odd = "its directory has two records of that name"
		return nil
	}
	dir.children[key(n.name)] = n
	if n.dir {
		return t.readDirectory(n, depth+1)
	}
	return nil
}

func (img *Image) damaged(what string) error {
	return fault.New(fault.Input, "cannot read %s: %s: copy or download it again", img.path, what)
}
