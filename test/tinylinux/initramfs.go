package tinylinux

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// File is one file of an initramfs. Directories above it are made as needed.
type File struct {
	Path string      // "modules/ext4.ko"
	Mode os.FileMode // permissions, or os.ModeSymlink with the target as Data
	Data []byte
}

// The types of a cpio entry, as in struct stat.
const (
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
)

// WriteInitramfs writes the files as a "newc" cpio archive, the format the
// kernel unpacks before it starts /init (Documentation/driver-api/early-userspace).
// It is not compressed: with QEMU's -initrd reading it costs less than
// unpacking it would.
func WriteInitramfs(w io.Writer, files []File) error {
	c := cpio{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{".": true}}
	for _, f := range files {
		name := strings.TrimPrefix(path.Clean("/"+f.Path), "/")
		c.parents(path.Dir(name))
		mode := modeRegular | uint32(f.Mode.Perm())
		if f.Mode&os.ModeSymlink != 0 {
			mode = modeSymlink | 0o777
		}
		c.entry(name, mode, f.Data)
	}
	c.entry("TRAILER!!!", 0, nil)
	return c.w.Flush()
}

type cpio struct {
	w     *bufio.Writer // keeps the first error for Flush
	dirs  map[string]bool
	inode int
}

func (c *cpio) parents(dir string) {
	if c.dirs[dir] {
		return
	}
	c.parents(path.Dir(dir))
	c.dirs[dir] = true
	c.entry(dir, modeDir|0o755, nil)
}

// entry writes a header of 13 eight-digit hexadecimal fields after the magic,
// the name and the data, each padded to four bytes.
func (c *cpio) entry(name string, mode uint32, data []byte) {
	c.inode++
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.w.WriteString(header + strings.Repeat("\x00", -len(header)&3))
	c.w.Write(data)
	c.w.WriteString(strings.Repeat("\x00", -len(data)&3))
}
