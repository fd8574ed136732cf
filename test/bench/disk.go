package main

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	sector   = 512
	block    = 4096 // unit of extents, as a file system would allocate them
	diskSize = 32 << 30
)

// partition is a row of the table that ESXi 7 and later put on a 32 GiB disk
// when they are told to keep the system small (systemMediaSize=min).
type partition struct {
	number      int
	first, last int64 // sectors, inclusive
	typ         string
}

var partitions = []partition{
	{1, 64, 204863, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"},
	{5, 208896, 8595455, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{6, 8597504, 16984063, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"},
	{7, 16986112, 67108830, "4EB2EA39-7855-4790-A79E-FAE495E21F8D"},
}

// Layouts say where the written data is.
//
//	spread: over the whole disk, so nothing can be cut off its end
//	esxi:   at the heads of the partitions, as the installer leaves it
const (
	layoutSpread = "spread"
	layoutESXi   = "esxi"
)

// makeDisk creates the raw disk at path: a GPT, FAT in partitions 1, 5 and 6,
// and data bytes of content in about 200 extents. It is the same on every run
// with the same Go release.
func makeDisk(path, layout string, data int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(diskSize); err != nil {
		return err
	}
	if err := format(path); err != nil {
		return err
	}
	c, err := newContent()
	if err != nil {
		return err
	}
	for i, e := range extents(layout, data) {
		if err := c.write(f, e, i); err != nil {
			return err
		}
	}
	return f.Sync()
}

func format(path string) error {
	args := []string{"--clear", "--set-alignment=1", "--disk-guid=7E3B1C2A-0000-4000-8000-000000000000"}
	for _, p := range partitions {
		args = append(args,
			fmt.Sprintf("--new=%d:%d:%d", p.number, p.first, p.last),
			fmt.Sprintf("--typecode=%d:%s", p.number, p.typ),
			fmt.Sprintf("--partition-guid=%d:7E3B1C2A-0000-4000-8000-00000000000%d", p.number, p.number))
	}
	args = append(args, "--attributes=1:set:2", path)
	if out, err := exec.Command("sgdisk", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("sgdisk: %w: %s", err, out)
	}
	for _, p := range partitions[:3] {
		cluster := "128"
		if p.number == 1 {
			cluster = "4"
		}
		out, err := exec.Command("mkfs.fat", "-F", "16", "-s", cluster, "-i", "e51d0000", "--invariant",
			fmt.Sprintf("--offset=%d", p.first), path, fmt.Sprint((p.last-p.first+1)/2)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("mkfs.fat: %w: %s", err, out)
		}
	}
	return nil
}

type extent struct{ off, size int64 }

// extents cuts data bytes into 200 pieces of 8 KiB to 64 MiB, most of them
// small, and places them without overlap behind the file systems' metadata.
func extents(layout string, data int64) []extent {
	rng := rand.New(rand.NewPCG(1, 2))
	const count = 200
	weights := make([]float64, count)
	var sum float64
	for i := range weights {
		weights[i] = rng.ExpFloat64() * rng.ExpFloat64()
		sum += weights[i]
	}
	sizes := make([]int64, count)
	for i, w := range weights {
		sizes[i] = max(8<<10, int64(w/sum*float64(data))/block*block)
	}

	// Room for the data: behind the first 2 MiB of partitions 5, 6 and 7.
	const metadata = 2 << 20
	room := func(p partition, limit int64) extent {
		first, size := p.first*sector+metadata, (p.last-p.first+1)*sector-metadata
		return extent{first / block * block, min(size, limit) / block * block}
	}
	rooms := []extent{room(partitions[1], 1<<40), room(partitions[2], 1<<40), room(partitions[3], 1<<40)}
	if layout == layoutESXi {
		rooms = []extent{room(partitions[1], data/2), room(partitions[2], data/8), room(partitions[3], data)}
	}
	var free int64
	for _, r := range rooms {
		free += r.size
	}
	for _, s := range sizes {
		free -= s
	}

	// Sorted random cuts of the free space are the gaps.
	gaps := make([]int64, count)
	for i := range gaps {
		gaps[i] = rng.Int64N(free/block) * block
	}
	slices.Sort(gaps)
	var out []extent
	pos, used := int64(0), int64(0) // position and data in the rooms, laid end to end
	for i, s := range sizes {
		pos = gaps[i] + used
		used += s
		for s > 0 {
			e := place(rooms, pos, s)
			out = append(out, e)
			pos, s = pos+e.size, s-e.size
		}
	}
	return out
}

// place maps [pos, pos+size) of the rooms laid end to end to the disk. The
// result is shorter than size where a room ends.
func place(rooms []extent, pos, size int64) extent {
	for _, r := range rooms {
		if pos < r.size {
			return extent{r.off + pos, min(size, r.size-pos)}
		}
		pos -= r.size
	}
	panic("bench: extent does not fit")
}

// content is what the extents are filled with: half of it incompressible, a
// quarter programs, an eighth text and an eighth zeros that were written.
type content struct {
	random   *rand.ChaCha8
	programs []byte
	text     []byte
}

// newContent reads the Go release's own tools and sources: real programs and
// real text which every machine that can run this has, byte for byte.
func newContent() (*content, error) {
	c := &content{random: rand.NewChaCha8([32]byte{'e', 's', 'x', 'i', 'd'})}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	root := strings.TrimSpace(string(out))
	for _, dir := range []struct {
		path, suffix string
		into         *[]byte
	}{{"pkg/tool", "", &c.programs}, {"src", ".go", &c.text}} {
		err := filepath.WalkDir(filepath.Join(root, dir.path), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, dir.suffix) {
				return err
			}
			if len(*dir.into) > 64<<20 {
				return filepath.SkipAll
			}
			b, err := os.ReadFile(path)
			*dir.into = append(*dir.into, b...)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(*dir.into) == 0 {
			return nil, fmt.Errorf("found nothing in %s of %s", dir.path, root)
		}
	}
	return c, nil
}

// write fills one extent, in pieces of 256 KiB whose kinds take turns.
func (c *content) write(f *os.File, e extent, seed int) error {
	const piece = 256 << 10
	buf := make([]byte, piece)
	rng := rand.New(rand.NewPCG(uint64(seed), 3))
	for done := int64(0); done < e.size; done += piece {
		b := buf[:min(piece, e.size-done)]
		switch n := (e.off + done) / piece; n % 8 {
		case 0, 1, 2, 3:
			_, _ = c.random.Read(b)
		case 4, 5:
			copy(b, c.programs[rng.IntN(len(c.programs)-piece):])
		case 6:
			copy(b, c.text[rng.IntN(len(c.text)-piece):])
		case 7:
			clear(b)
			binary.LittleEndian.PutUint64(b, uint64(n))
		}
		if _, err := f.WriteAt(b, e.off+done); err != nil {
			return err
		}
	}
	return nil
}

// countExtents asks the file system for the number of data extents and bytes.
func countExtents(path string) (count int, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for off := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return count, size, nil
		}
		if err != nil {
			return 0, 0, err
		}
		if off, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE); err != nil {
			return 0, 0, err
		}
		count, size = count+1, size+off-start
	}
}
