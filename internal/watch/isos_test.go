package watch

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// content is a small file that says how long it should be, like an ISO does.
const content = "CD001 whole image"

// lacking is a Whole for content.
func lacking(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) < len(content) {
		return fmt.Errorf("%d of %d bytes are there", len(b), len(content))
	}
	return nil
}

// foreign is a writers for files of another user.
func foreign(string) (use, error) { return unknown, nil }

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// TestArrivals brings a file in the ways programs do. Each must be told once,
// as complete; also where no lease is to be had, so that only time tells.
// The events are read after all is done, so that no pause of the machine matters.
func TestArrivals(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside.iso")
	write(t, outside, content)
	for _, tt := range []struct {
		name  string
		bring func(t *testing.T, path string)
	}{
		{name: "cp", bring: func(t *testing.T, path string) { run(t, "cp", outside, path) }},
		{name: "cp -p", bring: func(t *testing.T, path string) { run(t, "cp", "-p", outside, path) }},
		{name: "install", bring: func(t *testing.T, path string) { run(t, "install", "-m", "640", outside, path) }},
		{name: "dd", bring: func(t *testing.T, path string) {
			run(t, "dd", "if="+outside, "of="+path, "bs=1", "conv=fsync", "status=none")
		}},
		{name: "mv", bring: func(t *testing.T, path string) {
			tmp := filepath.Join(t.TempDir(), "x.iso")
			write(t, tmp, content)
			run(t, "mv", tmp, path)
		}},
		{name: "rsync", bring: func(t *testing.T, path string) {
			tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".Xb3kQz")
			write(t, tmp, content)
			must(t, os.Chtimes(tmp, time.Time{}, time.Unix(1e9, 0)))
			must(t, os.Rename(tmp, path))
		}},
		{name: "browser", bring: func(t *testing.T, path string) {
			write(t, path, "") // the placeholder, while .part grows
			write(t, path+".part", content)
			must(t, os.Rename(path+".part", path))
		}},
		{name: "times set after the close", bring: func(t *testing.T, path string) {
			write(t, path, content)
			must(t, os.Chtimes(path, time.Time{}, time.Unix(4e9, 0))) // in the future, too
		}},
		{name: "ln", bring: func(t *testing.T, path string) {
			must(t, os.Link(outside, path))
			t.Cleanup(func() { os.Remove(path) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, probe := range []func(string) (use, error){writers, foreign} {
				o := quick()
				o.Whole, o.Quiet = lacking, never
				w, err := newISOs(t.Context(), t.TempDir(), o)
				must(t, err)
				w.writers = probe
				tt.bring(t, filepath.Join(w.place.path, "x.iso"))
				go w.run()
				f := &follower{t, w.place.path, w.ch}
				f.want(Complete, "x.iso")
				f.wantNothing()
			}
		})
	}
}

func TestFoundBeforeStart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/b.iso", content)
	write(t, dir+"/a.iso", content)
	write(t, dir+"/.a.iso.Xb3kQz", content)
	f := followISOs(t, dir, quick())
	f.want(Complete, "a.iso")
	f.want(Complete, "b.iso")
	f.wantNothing()
}

// TestStalledWriterHoldsFileOpen: a scp that stalls with the file open, with
// everything that can be checked about the content in place.
func TestStalledWriterHoldsFileOpen(t *testing.T) {
	o := quick()
	o.Notice = 50 * time.Millisecond
	f := followISOs(t, t.TempDir(), o)
	w, err := os.Create(filepath.Join(f.dir, "x.iso"))
	must(t, err)
	defer w.Close()
	_, err = w.WriteString(content)
	must(t, err)
	f.wantWaiting("x.iso", "still open for writing")
	must(t, w.Close())
	f.want(Complete, "x.iso")
	f.wantNothing()
}

// TestBigCopy: many small writes must not make for as many rounds of the loop.
func TestBigCopy(t *testing.T) {
	w, err := newISOs(t.Context(), t.TempDir(), quick())
	must(t, err)
	var rounds atomic.Int64 // each asks for the time at least once, to set its timer
	w.now = func() time.Time {
		rounds.Add(1)
		return time.Now()
	}
	go w.run()
	f := &follower{t, w.place.path, w.ch}
	file, err := os.Create(filepath.Join(f.dir, "x.iso"))
	must(t, err)
	defer file.Close()
	const writes = 500
	start := time.Now()
	for range writes {
		_, err := file.WriteString(content)
		must(t, err)
		time.Sleep(50 * time.Microsecond) // so that we have time to read each event
	}
	took := time.Since(start)
	must(t, file.Close())
	f.want(Complete, "x.iso")
	if most := 20 * int64(1+took/blink); rounds.Load() > most {
		t.Errorf("%d rounds for %d writes in %v, want at most %d", rounds.Load(), writes, took, most)
	}
	f.wantNothing()
}

// TestResumedCopy: one that dies half-way and is taken up by another process.
func TestResumedCopy(t *testing.T) {
	o := quick()
	o.Whole, o.Notice = lacking, 50*time.Millisecond
	f := followISOs(t, t.TempDir(), o)
	path := filepath.Join(f.dir, "x.iso")
	write(t, path, content[:6])
	f.wantWaiting("x.iso", "is not whole yet: 6 of 17 bytes are there")

	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer w.Close()
	_, err = w.WriteString(content[6:8])
	must(t, err)
	must(t, w.Close())
	f.wantWaiting("x.iso", "is not whole yet: 8 of 17 bytes are there")

	put(t, path, content)
	f.want(Complete, "x.iso")
	f.wantNothing()
}

func TestRefused(t *testing.T) {
	o := quick()
	o.GiveUp, o.Whole = 100*time.Millisecond, lacking
	outside := filepath.Join(t.TempDir(), "outside.iso")
	write(t, outside, content)
	for _, tt := range []struct {
		name, file, reason string
		make               func(path string) error
	}{
		{"symlink", "x.iso", "symbolic link", func(p string) error { return os.Symlink(outside, p) }},
		{"dangling symlink", "x.iso", "symbolic link", func(p string) error { return os.Symlink(outside+"x", p) }},
		{"FIFO", "x.iso", "FIFO", func(p string) error { return unix.Mkfifo(p, 0o644) }},
		{"socket", "x.iso", "socket", func(p string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}},
		{"directory", "x.iso", "directory", func(p string) error { return os.Mkdir(p, 0o755) }},
		{"empty", "x.iso", "is empty", func(p string) error { return os.WriteFile(p, nil, 0o644) }},
		{"cut short", "x.iso", "6 of 17 bytes are there", func(p string) error { return os.WriteFile(p, []byte(content[:6]), 0o644) }},
		{"other name", "x.iso.sha256", "rename it", func(p string) error { return os.WriteFile(p, []byte(content), 0o644) }},
		{"no extension", "x", "rename it", func(p string) error { return os.WriteFile(p, []byte(content), 0o644) }},
		{"strange name", "a\nb\xff\x1b[31m", "rename it", func(p string) error { return os.WriteFile(p, []byte(content), 0o644) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			early := t.TempDir()
			must(t, tt.make(filepath.Join(early, tt.file)))
			f := followISOs(t, early, o)
			f.wantReason(Refused, tt.file, tt.reason)
			f.wantNothing()

			f = followISOs(t, t.TempDir(), o)
			must(t, tt.make(filepath.Join(f.dir, tt.file)))
			f.wantReason(Refused, tt.file, tt.reason)
			f.wantNothing()
			must(t, os.Remove(filepath.Join(f.dir, tt.file)))
			f.want(Gone, tt.file)
		})
	}
}

// TestMadeReadable: a refusal for lack of permission is taken back by chmod.
func TestMadeReadable(t *testing.T) {
	var mu sync.Mutex
	denied := true
	w, err := newISOs(t.Context(), t.TempDir(), quick())
	must(t, err)
	// The test may run as root, who can read everything.
	w.writers = func(path string) (use, error) {
		mu.Lock()
		defer mu.Unlock()
		if denied {
			return unknown, &os.PathError{Op: "open", Path: path, Err: unix.EACCES}
		}
		return writers(path)
	}
	go w.run()
	f := &follower{t, w.place.path, w.ch}
	path := filepath.Join(f.dir, "x.iso")
	write(t, path, content)
	f.wantReason(Refused, "x.iso", "permission denied")
	mu.Lock()
	denied = false
	mu.Unlock()
	must(t, os.Chmod(path, 0o666))
	f.want(Complete, "x.iso")
}

func TestReplacedAndGone(t *testing.T) {
	f := followISOs(t, t.TempDir(), quick())
	path := filepath.Join(f.dir, "x.iso")
	write(t, path, content)
	f.want(Complete, "x.iso")

	write(t, path, content+"more")
	f.want(Complete, "x.iso")

	must(t, os.Chmod(path, 0o600))
	must(t, os.Link(path, filepath.Join(t.TempDir(), "link")))
	f.wantNothing() // neither is a change of the file

	aside := filepath.Join(t.TempDir(), "x.iso")
	must(t, os.Rename(path, aside))
	must(t, os.Rename(aside, path))
	f.want(Gone, "x.iso")
	f.want(Complete, "x.iso")

	must(t, os.Remove(path))
	f.want(Gone, "x.iso")
	f.wantNothing()
}

// TestTellsAgain: what could not be taken is told again, on request and from
// time to time.
func TestTellsAgain(t *testing.T) {
	again := make(chan struct{})
	for name, o := range map[string]Options{
		"on request": {Settle: time.Millisecond, Quiet: time.Millisecond, Rescan: never, Again: again},
		"by itself":  {Settle: time.Millisecond, Quiet: time.Millisecond, Rescan: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "a.iso"), content)
			must(t, os.Symlink("a.iso", filepath.Join(dir, "b")))
			f := followISOs(t, dir, o)
			told := map[string]int{}
			for times := 1; times <= 3; times++ {
				if times > 1 && o.Again != nil {
					again <- struct{}{}
				}
				for told["a.iso"] < times || told["b"] < times {
					told[filepath.Base(f.next().Path)]++
				}
			}
		})
	}
}

func TestDirectoryComesAndGoes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		gone   func(t *testing.T, dir string)
		inside bool // somebody sits in the directory: it is not really freed
	}{
		{name: "deleted", gone: func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }},
		{name: "deleted with a shell in it", inside: true, gone: func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }},
		{name: "deleted with its parents", gone: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Dir(filepath.Dir(dir)))) }},
		{name: "moved away", gone: func(t *testing.T, dir string) { must(t, os.Rename(dir, filepath.Join(t.TempDir(), "aside"))) }},
		{name: "replaced by a file", gone: func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			write(t, dir, "x")
			t.Cleanup(func() { os.Remove(dir) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "lib", "esxid", "incoming")
			must(t, os.MkdirAll(dir, 0o755))
			f := followISOs(t, dir, quick())
			write(t, filepath.Join(dir, "x.iso"), content)
			f.want(Complete, "x.iso")
			if tt.inside {
				shell, err := os.Open(dir)
				must(t, err)
				defer shell.Close()
			}
			tt.gone(t, dir)
			// The two in the order in which they are noticed.
			var seen []Kind
			for !slices.Contains(seen, Gone) || !slices.Contains(seen, Trouble) {
				seen = append(seen, f.next().Kind)
			}
			_ = os.Remove(dir) // the file in its place
			must(t, os.MkdirAll(dir, 0o755))
			write(t, filepath.Join(dir, "y.iso"), content)
			for !slices.Contains(seen, Complete) {
				seen = append(seen, f.next().Kind)
			}
			seen = slices.DeleteFunc(seen, func(k Kind) bool { return k == Trouble }) // one for each reason
			if want := []Kind{Gone, Recovered, Complete}; !slices.Equal(seen, want) {
				t.Fatalf("events %q, want %q", seen, want)
			}
			f.wantNothing()
		})
	}
}

// TestDirectoryReplacedUnseen: what raises no event on any watch is found by
// the rescan.
func TestDirectoryReplacedUnseen(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b", "incoming")
	must(t, os.MkdirAll(dir, 0o755))
	o := quick()
	o.Rescan = 50 * time.Millisecond
	f := followISOs(t, dir, o)
	must(t, os.MkdirAll(filepath.Join(root, "new", "b", "incoming"), 0o755))
	write(t, filepath.Join(root, "new", "b", "incoming", "x.iso"), content)
	must(t, unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, "a"), unix.AT_FDCWD, filepath.Join(root, "new"), unix.RENAME_EXCHANGE))
	f.want(Complete, "x.iso")
}

// TestWatchLostUnseen: fsnotify forgets the watch of what is unmounted and says
// nothing; the rescan has to bring it back.
func TestWatchLostUnseen(t *testing.T) {
	again := make(chan struct{})
	o := quick()
	o.Again = again
	w, err := newISOs(t.Context(), t.TempDir(), o)
	must(t, err)
	must(t, w.place.watcher.Remove(w.place.path))
	write(t, filepath.Join(w.place.path, "x.iso"), content)
	go w.run()
	f := &follower{t, w.place.path, w.ch}
	again <- struct{}{}
	f.want(Complete, "x.iso")
	f.wantNothing()
}

// TestMovedAwayAndDeleted before anything is read: fsnotify fails to end a watch
// that is gone, and holds a lock until this error is taken.
func TestMovedAwayAndDeleted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "incoming")
	must(t, os.Mkdir(dir, 0o755))
	w, err := newISOs(t.Context(), dir, quick())
	must(t, err)
	aside := filepath.Join(t.TempDir(), "aside")
	must(t, os.Rename(dir, aside))
	must(t, os.Remove(aside))
	go w.run()
	f := &follower{t, dir, w.ch}
	f.wantReason(Trouble, "", "it does not exist")
	must(t, os.Mkdir(dir, 0o755))
	f.want(Recovered, "")
	write(t, filepath.Join(dir, "x.iso"), content)
	f.want(Complete, "x.iso")
}

// TestOverflow lets the kernel's queue really overflow before a file comes.
func TestOverflow(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	limit, err := strconv.Atoi(strings.TrimSpace(string(b)))
	must(t, err)
	w, err := newISOs(t.Context(), t.TempDir(), quick())
	must(t, err)
	f := &follower{t, w.place.path, w.ch}
	// Two names in turn, since equal events in a row become one; and such that
	// are not even looked at. Twice as many as fit, since fsnotify takes some out
	// before it waits for a reader.
	names := []string{filepath.Join(f.dir, ".a"), filepath.Join(f.dir, ".b")}
	write(t, names[0], "")
	write(t, names[1], "")
	for i := range 2 * limit {
		must(t, os.Chmod(names[i%2], 0o600))
	}
	write(t, filepath.Join(f.dir, "lost.iso"), content)
	must(t, os.Mkdir(filepath.Join(f.dir, "lost.too"), 0o755))
	// Both are behind the overflow.
	for overflow, deadline := false, time.After(patience); !overflow; {
		select {
		case e := <-w.place.events():
			if name := w.place.in(e); !ignored(name) {
				t.Fatalf("%v was not lost", e)
			}
		case <-w.place.lost:
			overflow = true
		case <-deadline:
			t.Fatal("no overflow")
		}
	}
	w.place.lost <- struct{}{}
	go w.run()
	f.want(Complete, "lost.iso")
	f.want(Refused, "lost.too")
	f.wantNothing()
}

func TestManyFiles(t *testing.T) {
	const count = 1000
	f := followISOs(t, t.TempDir(), quick())
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := i; n < count; n += 4 {
				if err := os.WriteFile(fmt.Sprintf("%s/%04d.iso", f.dir, n), []byte(content), 0o644); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[string]bool{}
	for range count {
		e := f.next()
		if e.Kind != Complete || seen[e.Path] {
			t.Fatalf("unexpected %+v", e)
		}
		seen[e.Path] = true
	}
	group.Wait()
	f.wantNothing()
}

func TestMaxFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.iso", "b.iso", "c.iso"} {
		write(t, filepath.Join(dir, name), content)
	}
	o := quick()
	o.MaxFiles = 2
	f := followISOs(t, dir, o)
	f.wantReason(Trouble, "", "holds more than 2 files")
	first, second := f.next(), f.next()
	if first.Kind != Complete || second.Kind != Complete {
		t.Fatalf("%+v, %+v", first, second)
	}
	must(t, os.Remove(first.Path))
	f.want(Gone, filepath.Base(first.Path))
	f.want(Recovered, "")
	third := f.next()
	if third.Kind != Complete || third.Path == first.Path || third.Path == second.Path {
		t.Fatalf("%+v after %+v and %+v", third, first, second)
	}
}
