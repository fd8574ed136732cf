package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

// pack packs a disk that must be packable.
func pack(t testing.TB, raw string, o PackOptions) (string, PackResult) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.dd.gz")
	r, err := Pack(t.Context(), raw, out, o)
	if err != nil {
		t.Fatal(err)
	}
	return out, r
}

// gunzip unpacks with the standard library.
func gunzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// randomDisk is a file of random size, with random extents of all kinds of data
// at places where they just touch, miss and cross the edges of chunks.
func randomDisk(t testing.TB, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 5))
	size := rng.Int64N(12*mib) + 1
	data := map[int64][]byte{}
	for range rng.IntN(12) {
		b := make([]byte, 1+rng.IntN(1<<(4+rng.IntN(18))))
		switch rng.IntN(4) {
		case 0: // random
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
		case 1: // text
			copy(b, bytes.Repeat([]byte(fmt.Sprint("line ", rng.Uint32(), "\n")), len(b)/6+1))
		case 2: // a byte in zeros
			b[rng.IntN(len(b))] = 1
		case 3: // written zeros
		}
		offset := rng.Int64N(size)
		if rng.IntN(2) == 0 {
			offset = max(0, offset/chunkSize*chunkSize-rng.Int64N(3)*4096)
		}
		data[offset] = b[:min(int64(len(b)), size-offset)]
	}
	data[0] = []byte("something")
	return newSparse(t, size, data)
}

func TestPackUnpacksToTheDisk(t *testing.T) {
	for seed := range uint64(14) {
		raw := randomDisk(t, seed)
		want, err := os.ReadFile(raw)
		if err != nil {
			t.Fatal(err)
		}
		out, r := pack(t, raw, PackOptions{})
		got := gunzip(t, out)
		if int64(len(got)) != r.RawSize || r.RawSize > int64(len(want)) || !bytes.Equal(got, want[:r.RawSize]) {
			t.Fatalf("seed %d: unpacks to something else: %d bytes of %d, %d said", seed, len(got), len(want), r.RawSize)
		}
		if len(bytes.TrimLeft(want[r.RawSize:], "\x00")) != 0 {
			t.Fatalf("seed %d: data behind %d was left out", seed, r.RawSize)
		}
		packed, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(packed)
		if r.PackedSize != int64(len(packed)) || r.SHA256 != hex.EncodeToString(sum[:]) {
			t.Fatalf("seed %d: the result describes another file: %+v", seed, r)
		}
		f := bytes.NewReader(packed)
		u, err := unpackSegments(t.Context(), f, f.Size(), nil)
		if err != nil || u.index.size != r.RawSize || u.sha256 != r.SHA256 {
			t.Fatalf("seed %d: cannot be unpacked in segments: %+v, %v", seed, u, err)
		}
	}
}

func TestPackIsReproducible(t *testing.T) {
	raw := randomDisk(t, 1003)
	// It ends in data: written zeros would be kept there, a hole would not.
	info, err := os.Stat(raw)
	if err != nil {
		t.Fatal(err)
	}
	patchFile(t, raw, info.Size(), []byte("end"))
	copied := newSparse(t, 0, nil)
	b, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, b, 0o600); err != nil { // no holes
		t.Fatal(err)
	}
	_, first := pack(t, raw, PackOptions{Workers: 1})
	for _, o := range []PackOptions{{Workers: 2}, {Workers: 7}, {Workers: 64}, {}} {
		if _, r := pack(t, raw, o); r.SHA256 != first.SHA256 {
			t.Errorf("%d workers make another file", o.Workers)
		}
	}
	if _, r := pack(t, copied, PackOptions{}); r.SHA256 != first.SHA256 {
		t.Error("holes make a difference")
	}
}

// TestPackGolden keeps the bytes of the format. They change with the compressor;
// the zero runs, head and tail should never.
func TestPackGolden(t *testing.T) {
	raw := newSparse(t, 9*mib, map[int64][]byte{
		0:               []byte("first"),
		2*mib + 5:       bytes.Repeat([]byte("esxid "), 3000),
		2*mib + 700*kib: []byte("a run of zeros before it in its chunk"),
		5 * mib:         make([]byte, 4096),
		7*mib - 4096:    []byte("last"),
		8*mib + 12*4096: make([]byte, 1),
	})
	out, _ := pack(t, raw, PackOptions{})
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "small.dd.gz")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, differ from the %d of %s: %v", len(got), len(want), golden, err)
	}
}

func TestNextZeroRun(t *testing.T) {
	const u = zeroUnit
	disk := func(size int, data ...int) []byte { // a byte in each of these places
		b := make([]byte, size)
		for _, at := range data {
			b[at] = 1
		}
		return b
	}
	for _, tt := range []struct {
		name          string
		b             []byte
		start, length int
	}{
		{"less than a unit", disk(100, 1), 100, 0},
		{"run too short", disk(20*u, 0, 16*u), 20 * u, 0},
		{"shortest run", disk(18*u, 0, 17*u), u, 16 * u},
		{"data at the edges of units", disk(40*u, 2*u-1, 30*u), 2 * u, 28 * u},
		{"first of two", disk(80*u, 0, 20*u, 79*u), u, 19 * u},
		{"second is long enough", disk(80*u, 0, 5*u, 79*u), 6 * u, 73 * u},
		{"up to a part of a unit", disk(20*u+7, 0, 20*u+6), u, 19 * u},
		{"nothing", nil, 0, 0},
	} {
		if start, length := nextZeroRun(tt.b); start != tt.start || length != tt.length {
			t.Errorf("%s: %d zeros at %d, want %d at %d", tt.name, length, start, tt.length, tt.start)
		}
	}
}

// TestOtherDecoders: what deployments and people use reads the same from it.
func TestOtherDecoders(t *testing.T) {
	raw := newSparse(t, 40*mib, map[int64][]byte{3: []byte("x"), 17*mib + 1: bytes.Repeat([]byte("data "), 100000), 39 * mib: []byte("end")})
	out, r := pack(t, raw, PackOptions{})
	want := hashOf(t, raw, 0, r.RawSize)
	runTool(t, "gzip", "-t", out)
	for _, decoder := range [][]string{
		{"gzip", "-dc"}, {"zcat"}, {"busybox", "zcat"}, {"pigz", "-dc"},
		{"python3", "-c", "import gzip, shutil, sys; shutil.copyfileobj(gzip.open(sys.argv[1]), sys.stdout.buffer)"},
	} {
		cmd := exec.Command(decoder[0], append(decoder[1:], out)...)
		h := sha256.New()
		cmd.Stdout = h
		if err := cmd.Run(); err != nil || hex.EncodeToString(h.Sum(nil)) != want {
			t.Errorf("%s: %v, or something else comes out", decoder[0], err)
		}
	}
}

// TestPackLargeDisk: sizes above 4 GiB, runs longer than a block.
func TestPackLargeDisk(t *testing.T) {
	raw := newSparse(t, 32*gib, map[int64][]byte{0: []byte("start"), 7*gib + 3*mib: []byte("end")})
	out, r := pack(t, raw, PackOptions{})
	if r.RawSize != 7*gib+4*mib || r.PackedSize > 8*mib {
		t.Errorf("result %+v", r)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u, err := unpackSegments(t.Context(), f, r.PackedSize, nil)
	if err != nil || u.index.size != r.RawSize {
		t.Fatalf("unpacked %+v, %v", u, err)
	}
	b := make([]byte, 10)
	if _, err := u.index.reader(t.Context()).ReadAt(b, 7*gib+3*mib-2); err != nil || string(b) != "\x00\x00end\x00\x00\x00\x00\x00" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestPackTrimsTheTail(t *testing.T) {
	disk := newDisk(t, disk6Size, disk6)
	_, r := pack(t, disk, PackOptions{})
	if r.RawSize != 25*mib {
		t.Errorf("the image has %d MiB, want 25", r.RawSize/mib)
	}
	if r.DataSize > 2*mib {
		t.Errorf("%d bytes of data", r.DataSize)
	}
}

func TestPackRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	good := newSparse(t, mib, map[int64][]byte{0: []byte("x")})
	for _, tt := range []struct {
		name, raw, out string
		o              PackOptions
		class          fault.Class
		saying         string
	}{
		{"missing", dir + "/missing", dir + "/out", PackOptions{}, fault.Input, "no such file"},
		{"directory", dir, dir + "/out", PackOptions{}, fault.Input, "not a regular file"},
		{"FIFO", fifo, dir + "/out", PackOptions{}, fault.Input, "not a regular file"},
		{"empty", newSparse(t, 0, nil), dir + "/out", PackOptions{}, fault.Input, "nothing was ever written"},
		{"only a hole", newSparse(t, mib, nil), dir + "/out", PackOptions{}, fault.Input, "nothing was ever written"},
		{"no directory for the output", good, dir + "/no/out", PackOptions{}, fault.CannotWrite, "cannot create"},
		{"FIFO as output", good, fifo, PackOptions{}, fault.CannotWrite, "not a regular file"},
		{"directory as output", good, dir, PackOptions{}, fault.CannotWrite, "not a regular file"},
		{"into itself", good, good, PackOptions{}, fault.Usage, "into itself"},
		{"level 9", good, dir + "/out", PackOptions{Level: 9}, fault.Usage, "level"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Pack(t.Context(), tt.raw, tt.out, tt.o)
			if fault.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.saying) {
				t.Errorf("err = %v, want class %d and %q", err, tt.class, tt.saying)
			}
		})
	}
	assertFiles(t, dir, "fifo")
}

func assertFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// TestOutputThatCannotGetItsName: what was written does not stay.
func TestOutputThatCannotGetItsName(t *testing.T) {
	dir := t.TempDir()
	o, err := createOutput(filepath.Join(dir, "out"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := o.commit(); err == nil {
		t.Error("a directory was replaced by a file")
	}
	o.discard()
	assertFiles(t, dir, "out")
}

// incompressible is a disk of n MiB that packs to as many.
func incompressible(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n*mib)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return newSparse(t, int64(len(b)), map[int64][]byte{0: b})
}

func TestPackDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatalf("cannot mount a small tmpfs (tests run as root): %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	out := filepath.Join(dir, "image.dd.gz")
	if err := os.WriteFile(out, []byte("the one before"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Pack(t.Context(), incompressible(t, 20), out, PackOptions{})
	if fault.ClassOf(err) != fault.CannotWrite || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("err = %v, want a full disk", err)
	}
	assertFiles(t, dir, "image.dd.gz")
	if b, err := os.ReadFile(out); err != nil || string(b) != "the one before" {
		t.Errorf("the older image is now %q, %v", b, err)
	}
}

func TestPackIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	before := runtime.NumGoroutine()
	raw := incompressible(t, 30)
	calls := 0
	_, err := Pack(ctx, raw, filepath.Join(dir, "out"), PackOptions{Workers: 3, Progress: func(done, total int64) {
		if calls++; calls == 3 {
			cancel()
		}
		if total != 30*mib || done != int64(calls)*mib {
			t.Errorf("progress %d of %d in call %d", done, total, calls)
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if calls > 3 {
		t.Errorf("went on for %d chunks", calls-3)
	}
	assertFiles(t, dir)
	// They are done; the runtime takes them off its list a moment later.
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, were %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestPackOfShrinkingDisk(t *testing.T) {
	raw := incompressible(t, 60)
	dir := t.TempDir()
	_, err := Pack(t.Context(), raw, filepath.Join(dir, "out"), PackOptions{Workers: 1, Progress: func(done, total int64) {
		if err := os.Truncate(raw, mib/2); err != nil {
			t.Error(err)
		}
	}})
	if !errors.Is(err, errShrunk) {
		t.Errorf("err = %v", err)
	}
	assertFiles(t, dir)
}

// TestPackIsKilled runs Pack in a child, kills it in the middle and packs again.
func TestPackIsKilled(t *testing.T) {
	const env = "IMAGE_TEST_PACK"
	if paths := os.Getenv(env); paths != "" {
		raw, out, _ := strings.Cut(paths, "\n")
		_, err := Pack(context.Background(), raw, out, PackOptions{Progress: func(done, total int64) {
			if done >= total/2 {
				if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			}
		}})
		t.Fatalf("survived: %v", err)
	}
	raw, dir := incompressible(t, 40), t.TempDir()
	out := filepath.Join(dir, "image.dd.gz")
	cmd := exec.Command(os.Args[0], "-test.run=^TestPackIsKilled$")
	cmd.Env = append(os.Environ(), env+"="+raw+"\n"+out)
	if output, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v\n%s", err, output)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a half image has its name: %v", err)
	}
	r, err := Pack(t.Context(), raw, out, PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	assertFiles(t, dir, "image.dd.gz")
	if _, clean := pack(t, raw, PackOptions{}); clean.SHA256 != r.SHA256 {
		t.Error("the image is not the same as without the kill")
	}
}
