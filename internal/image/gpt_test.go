package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/fault"
)

func TestReadTable(t *testing.T) {
	for _, tt := range []struct {
		name  string
		size  int64
		parts []part
	}{{"6.x", disk6Size, disk6}, {"7.x", 32 * gib, disk7}, {"empty", 32 * mib, nil}} {
		t.Run(tt.name, func(t *testing.T) {
			path := newDisk(t, tt.size, tt.parts)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			table, err := ReadTable(f, tt.size)
			if err != nil {
				t.Fatal(err)
			}
			if len(table.Partitions) != len(tt.parts) {
				t.Fatalf("found %d partitions, want %d", len(table.Partitions), len(tt.parts))
			}
			for i, want := range tt.parts {
				p := table.Partitions[i]
				if p.Number != want.number || p.First != want.first || p.Last != want.last || p.Type != want.typ {
					t.Errorf("partition %+v, want %+v", p, want)
				}
				if unique := fmt.Sprintf("11111111-2222-4333-8444-%012d", p.Number); p.Unique.String() != unique {
					t.Errorf("partition %d has GUID %s, want %s", p.Number, p.Unique, unique)
				}
				if boot := p.Number == 1; (p.Attributes == 4) != boot {
					t.Errorf("partition %d has attributes %#x", p.Number, p.Attributes)
				}
			}
			last := tt.size/sectorSize - 1
			if table.AlternateLBA != last || table.LastUsable != last-33 || table.FirstUsable != 34 || table.backupStart() != (last-32)*sectorSize {
				t.Errorf("table %+v of a disk of %d sectors", table, last+1)
			}
		})
	}
}

// TestReadTableOfImage: the end of the disk need not be there.
func TestReadTableOfImage(t *testing.T) {
	r := readRawTable(t, newDisk(t, disk6Size, disk6))
	if _, err := ReadTable(r.bytes(), int64(len(r.sectors))); err != nil {
		t.Error(err)
	}
}

func TestReadTableRefuses(t *testing.T) {
	good := readRawTable(t, newDisk(t, disk6Size, disk6))
	put32, put64 := binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	for _, tt := range []struct {
		name  string
		spoil func(r *rawTable)
		seal  bool // so that the checksums are right
		want  string
	}{
		{"no boot record", func(r *rawTable) { r.sectors[510] = 0 }, false, "not a boot record"},
		{"no protective entry", func(r *rawTable) { r.sectors[450] = 0x0c }, false, "no protective entry"},
		{"no signature", func(r *rawTable) { r.header()[0] = 'X' }, false, "there is none"},
		{"revision", func(r *rawTable) { r.header()[8] = 1 }, false, "revision"},
		{"header too small", func(r *rawTable) { put32(r.header()[12:], 91) }, false, "header size"},
		{"header too large", func(r *rawTable) { put32(r.header()[12:], 513) }, false, "header size"},
		{"header checksum", func(r *rawTable) { r.header()[60] ^= 1 }, false, "checksum of the header"},
		{"entries checksum", func(r *rawTable) { r.entry(100)[0] ^= 1 }, false, "checksum of the entries"},
		{"own place", func(r *rawTable) { put64(r.header()[24:], 2) }, true, "is for sector 2"},
		{"negative sector", func(r *rawTable) { put64(r.header()[32:], 1<<63) }, true, "too large"},
		{"no entries", func(r *rawTable) { put32(r.header()[80:], 0) }, true, "0 entries"},
		{"too many entries", func(r *rawTable) { put32(r.header()[80:], 1<<31) }, true, "entries"},
		{"entry size", func(r *rawTable) { put32(r.header()[84:], 100) }, true, "entries of 100 bytes"},
		{"entries over the header", func(r *rawTable) { put64(r.header()[72:], 1) }, true, "overlap"},
		{"entries beyond the disk", func(r *rawTable) { put64(r.header()[40:], 3); put64(r.header()[72:], 3) }, true, "overlap"},
		{"entries outside", func(r *rawTable) {
			put64(r.header()[72:], 1<<20)
			put64(r.header()[40:], 1<<21)
			put64(r.header()[48:], 1<<22)
			put64(r.header()[32:], 1<<23)
		}, true, "outside the image"},
		{"partition before the usable", func(r *rawTable) { put64(r.entry(0)[32:], 33) }, true, "partition 1"},
		{"partition behind the usable", func(r *rawTable) { put64(r.entry(6)[40:], disk6Size/sectorSize-33) }, true, "partition 7"},
		{"partition backwards", func(r *rawTable) { put64(r.entry(0)[32:], 8192) }, true, "partition 1"},
		{"partition with sector 2^64-1", func(r *rawTable) { put64(r.entry(0)[40:], 1<<64-1) }, true, "partition 1"},
		{"partitions overlap", func(r *rawTable) { put64(r.entry(4)[40:], 49216) }, true, "5 and 6 overlap"},
		{"partitions the same", func(r *rawTable) { copy(r.entry(9), r.entry(5)) }, true, "6 and 10 overlap"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := *good
			tt.spoil(&r)
			if tt.seal {
				r.seal()
			}
			_, err := ReadTable(r.bytes(), int64(len(r.sectors)))
			if fault.ClassOf(err) != fault.Input || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want a bad input that says %q", err, tt.want)
			}
		})
	}
	for _, size := range []int64{0, 511, 1023} {
		if _, err := ReadTable(good.bytes(), size); fault.ClassOf(err) != fault.Input {
			t.Errorf("with %d bytes: %v", size, err)
		}
	}
}

func TestParseGUID(t *testing.T) {
	g, err := ParseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	if err != nil || g != typeESP || g.String() != "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" {
		t.Errorf("ParseGUID = %s, %v", g, err)
	}
	for _, bad := range []string{"", "C12A7328", "C12A7328F-81F-11D2-BA4B-00A0C93EC93B", "X12A7328-F81F-11D2-BA4B-00A0C93EC93B", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B0"} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q) succeeded", bad)
		}
	}
}

// FuzzReadTable: whatever a disk begins with, a table that is accepted is sound.
func FuzzReadTable(f *testing.F) {
	good := readRawTable(f, newDisk(f, disk6Size, disk6))
	f.Add(good.sectors[sectorSize:][:gptHeaderSize], good.sectors[2*sectorSize:][:8*gptEntrySize])
	f.Fuzz(func(t *testing.T, header, entries []byte) {
		r := *good
		copy(r.header(), header)
		copy(r.sectors[2*sectorSize:], entries)
		r.seal()
		table, err := ReadTable(bytes.NewReader(r.sectors[:]), int64(len(r.sectors)))
		if err != nil {
			return
		}
		for i, p := range table.Partitions {
			if p.First < table.FirstUsable || p.Last > table.LastUsable || p.Size() <= 0 || p.Offset() < 0 {
				t.Errorf("partition %+v in %+v", p, table)
			}
			for _, q := range table.Partitions[:i] {
				if p.First <= q.Last && q.First <= p.Last {
					t.Errorf("partitions %+v and %+v overlap", p, q)
				}
			}
		}
	})
}
