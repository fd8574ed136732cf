package esxisim

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	fatEntrySize = 32
	attrLabel    = 0x08
	attrDir      = 0x10
	attrArchive  = 0x20
)

// fatDir is a directory to be written.
type fatDir struct {
	names    []string // of children, in the order they came
	children map[string]*fatDir
	files    []Module // with their plain names
}

func (d *fatDir) add(file Module) error {
	dir, rest, deeper := strings.Cut(file.Name, "/")
	if !deeper {
		if slices.ContainsFunc(d.files, func(f Module) bool { return strings.EqualFold(f.Name, dir) }) {
			return fmt.Errorf("%s is there twice", file.Name)
		}
		d.files = append(d.files, file)
		return nil
	}
	child := d.children[dir]
	if child == nil {
		child = &fatDir{children: map[string]*fatDir{}}
		d.children[dir] = child
		d.names = append(d.names, dir)
	}
	file.Name = rest
	return child.add(file)
}

// writeDir writes what is in a directory and returns its entries. self is the
// directory's own cluster, 0 for the root.
func (fw *fatWriter) writeDir(d *fatDir, self int64) ([]byte, error) {
	var entries []byte
	for _, name := range d.names {
		child := d.children[name]
		short, err := shortName(name)
		if err != nil {
			return nil, err
		}
		size := int64(2+len(child.names)+len(child.files)) * fatEntrySize
		cluster, offset, err := fw.allocate(size)
		if err != nil {
			return nil, err
		}
		below, err := fw.writeDir(child, cluster)
		if err != nil {
			return nil, err
		}
		data := slices.Concat(
			fatEntry([11]byte([]byte(".          ")), 0, attrDir, cluster, 0),
			fatEntry([11]byte([]byte("..         ")), 0, attrDir, self, 0), below)
		perCluster := fw.perCluster * Sector
		data = append(data, make([]byte, -int64(len(data))&(perCluster-1))...)
		if _, err := fw.w.WriteAt(data, offset); err != nil {
			return nil, err
		}
		entries = append(entries, fatEntry(short, lowerCase(name), attrDir, cluster, 0)...)
	}
	for _, file := range d.files {
		entry, err := fw.writeFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name, err)
		}
		entries = append(entries, entry...)
	}
	return entries, nil
}

// writeFile writes a file's data and returns its directory entry.
func (fw *fatWriter) writeFile(file Module) ([]byte, error) {
	short, err := shortName(file.Name)
	if err != nil {
		return nil, err
	}
	cluster, offset, err := fw.allocate(file.Size)
	if err != nil {
		return nil, err
	}
	r, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	n, err := io.CopyBuffer(io.NewOffsetWriter(fw.w, offset), struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err != nil {
		return nil, err
	}
	if n != file.Size {
		return nil, fmt.Errorf("it has %d bytes, %d were expected", n, file.Size)
	}
	return fatEntry(short, lowerCase(file.Name), attrArchive, cluster, file.Size), nil
}

// fatEntry is a directory entry, dated 2025-01-01 00:00.
func fatEntry(name [11]byte, lower, attributes byte, cluster, size int64) []byte {
	const date = (2025-1980)<<9 | 1<<5 | 1
	e := make([]byte, fatEntrySize)
	copy(e, name[:])
	e[11], e[12] = attributes, lower
	for _, at := range []int{16, 18, 24} { // made, read, written
		binary.LittleEndian.PutUint16(e[at:], date)
	}
	binary.LittleEndian.PutUint16(e[26:], uint16(cluster))
	binary.LittleEndian.PutUint32(e[28:], uint32(size))
	return e
}

// lowerCase is the flag byte with which Windows NT and Linux show the name
// (0x08) and the extension (0x10) in lower case.
func lowerCase(name string) (flags byte) {
	base, ext, _ := strings.Cut(name, ".")
	if base != strings.ToUpper(base) {
		flags |= 0x08
	}
	if ext != strings.ToUpper(ext) {
		flags |= 0x10
	}
	return flags
}
