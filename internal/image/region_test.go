package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/fault"
	"golang.org/x/sys/unix"
)

// extentsOf lists the data of a file as its file system sees it.
func extentsOf(t testing.TB, path string) (out []span) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	err = walkData(seekerOf(f), 0, info.Size(), func(start, end int64) error {
		out = append(out, span{start, end})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newSparse(t testing.TB, size int64, data map[int64][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	for offset, b := range data {
		patchFile(t, path, offset, b)
	}
	return path
}

func TestSaveAndRestoreRegion(t *testing.T) {
	page := func(c byte) []byte { return bytes.Repeat([]byte{c}, 4096) }
	// The region is from 1 MiB to 9 MiB; zeros that were written are data.
	disk := newSparse(t, 16*mib, map[int64][]byte{0: page('a'), mib: page('b'), 3 * mib: page(0), 5*mib + 8192: page('c'), 9 * mib: page('d')})
	before, extents := hashOf(t, disk, 0, 16*mib), extentsOf(t, disk)
	saved := filepath.Join(t.TempDir(), "esp.saved")
	if err := saveRegion(t, disk, mib, 8*mib, saved); err != nil {
		t.Fatal(err)
	}
	if got := extentsOf(t, saved); len(got) != 3 {
		t.Errorf("saved extents %v, want 3", got)
	}
	patchFile(t, disk, mib+100, []byte("edited"))
	patchFile(t, disk, 7*mib, page('e'))
	for range 2 {
		if err := RestoreRegion(t.Context(), openRW(t, saved), openRW(t, disk), mib); err != nil {
			t.Fatal(err)
		}
	}
	if hashOf(t, disk, 0, 16*mib) != before {
		t.Error("the disk is not what it was")
	}
	if got := extentsOf(t, disk); len(got) != len(extents) {
		t.Errorf("extents %v, were %v", got, extents)
	}
}

func TestRegionRefuses(t *testing.T) {
	disk, out := openRW(t, newSparse(t, mib, nil)), openRW(t, newSparse(t, 0, nil))
	for _, r := range [][2]int64{{0, mib + 1}, {mib, 1}, {-1, 10}, {1, 1<<63 - 1}} {
		if err := SaveRegion(t.Context(), disk, r[0], r[1], out); fault.ClassOf(err) != fault.Input {
			t.Errorf("SaveRegion of %v: %v", r, err)
		}
	}
	if err := RestoreRegion(t.Context(), openRW(t, newSparse(t, mib, nil)), disk, 1); fault.ClassOf(err) != fault.Input {
		t.Errorf("RestoreRegion beyond the end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := SaveRegion(ctx, openRW(t, newSparse(t, mib, map[int64][]byte{0: []byte("x")})), 0, mib, out); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// fakeSeek answers like a file of size bytes with these extents of data.
func fakeSeek(size int64, data ...span) seeker {
	return func(offset int64, whence int) (int64, error) {
		for _, e := range data {
			switch {
			case whence == unix.SEEK_DATA && offset < e.end:
				return max(offset, e.start), nil
			case whence == unix.SEEK_HOLE && offset < e.start:
				return offset, nil
			case whence == unix.SEEK_HOLE && offset < e.end:
				return e.end, nil
			}
		}
		return 0, unix.ENXIO
	}
}

func TestWalkData(t *testing.T) {
	broken := func(err error) seeker {
		return func(int64, int) (int64, error) { return 0, err }
	}
	for _, tt := range []struct {
		name     string
		seek     seeker
		from, to int64
		want     []span
		err      string
	}{
		{"one", fakeSeek(100, span{10, 20}), 0, 100, []span{{10, 20}}, ""},
		{"tail hole", fakeSeek(100, span{0, 5}, span{50, 60}), 0, 100, []span{{0, 5}, {50, 60}}, ""},
		{"data to the end", fakeSeek(100, span{90, 100}), 0, 100, []span{{90, 100}}, ""},
		{"part of extents", fakeSeek(100, span{10, 20}, span{50, 60}), 15, 55, []span{{15, 20}, {50, 55}}, ""},
		{"data behind the part", fakeSeek(100, span{50, 60}), 0, 50, nil, ""},
		{"nothing", fakeSeek(100), 0, 100, nil, ""},
		{"not supported", broken(unix.EINVAL), 3, 100, []span{{3, 100}}, ""},
		{"not supported either", broken(unix.EOPNOTSUPP), 0, 100, []span{{0, 100}}, ""},
		{"broken disk", broken(unix.EIO), 0, 100, nil, "input/output error"},
		{"goes backwards", func(o int64, w int) (int64, error) { return 0, nil }, 0, 100, nil, "reports an extent"},
	} {
		var got []span
		err := walkData(tt.seek, tt.from, tt.to, func(start, end int64) error {
			got = append(got, span{start, end})
			return nil
		})
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: err = %v, want %q", tt.name, err, tt.err)
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
	}
}

// TestSurvey: what counts as the end of a disk.
func TestSurvey(t *testing.T) {
	const size = disk6Size
	page := bytes.Repeat([]byte("x"), 4096)
	lastUsable := int64(size - 34*sectorSize) // the last sector a partition may have
	dataPart := slices.Concat(disk6[:3], []part{{2, 90208, size/sectorSize - 34, typeVMFS, 0, 0}})
	for _, tt := range []struct {
		name  string
		parts []part
		data  map[int64][]byte
		end   int64 // 0: the end of the last FAT's metadata, which is in the third chunk of partition 6
	}{
		{"backup table only", disk6, nil, 0},
		{"data in the last partition", disk6, map[int64][]byte{100000 * sectorSize: page}, 49 * mib},
		{"written zeros count", disk6, map[int64][]byte{100000 * sectorSize: make([]byte, 4096)}, 49 * mib},
		{"data before the backup table", disk6, map[int64][]byte{62 * mib: page}, 63 * mib},
		{"last sector of a partition", dataPart, map[int64][]byte{lastUsable: page[:sectorSize]}, 64 * mib},
		{"zeros in the block of the backup table", dataPart, map[int64][]byte{lastUsable: make([]byte, sectorSize)}, 0},
		{"block before the backup table's", dataPart, map[int64][]byte{lastUsable - 8192: make([]byte, 4096)}, 64 * mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := newDisk(t, size, tt.parts)
			for offset, b := range tt.data {
				patchFile(t, disk, offset, b)
			}
			s := surveyFile(t, disk)
			want := tt.end
			if want == 0 {
				want = 25 * mib
			}
			if s.end != want {
				t.Errorf("the disk ends at %d MiB, want %d", s.end/mib, want/mib)
			}
		})
	}
	t.Run("no table", func(t *testing.T) {
		if s := surveyFile(t, newSparse(t, 10*mib+512, map[int64][]byte{10 * mib: page[:1]})); s.end != 10*mib+512 {
			t.Errorf("the disk ends at %d, want its end", s.end)
		}
	})
	t.Run("damaged table", func(t *testing.T) {
		disk := newDisk(t, size, disk6)
		patchFile(t, disk, sectorSize+60, []byte{0xff})
		if s := surveyFile(t, disk); s.end != size {
			t.Errorf("the disk ends at %d, want its end", s.end)
		}
	})
	t.Run("table of a smaller disk", func(t *testing.T) {
		disk := newDisk(t, size, disk6)
		if err := os.Truncate(disk, size+mib); err != nil {
			t.Fatal(err)
		}
		if s := surveyFile(t, disk); s.end != size {
			t.Errorf("the disk ends at %d, want %d, where its data ends", s.end, size)
		}
	})
}

func surveyFile(t *testing.T, path string) *survey {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s, err := surveyDisk(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
