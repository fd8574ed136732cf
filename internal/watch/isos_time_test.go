package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// stepped is a watch whose loop and clock are the test: what happens between
// two looks takes no time, however busy the machine is.
type stepped struct {
	*isos
	t     *testing.T
	told  chan Event
	clock time.Time
}

func inSteps(t *testing.T, dir string, o Options) *stepped {
	t.Helper()
	w, err := newISOs(t.Context(), dir, o)
	must(t, err)
	t.Cleanup(w.place.close)
	s := &stepped{isos: w, t: t, told: make(chan Event, 100), clock: time.Now()}
	for _, f := range w.files {
		s.clock = f.since // when newISOs found it
	}
	w.ch, w.writers, w.now = s.told, foreign, func() time.Time { return s.clock }
	return s
}

// path is the one file of these tests.
func (s *stepped) path() string { return filepath.Join(s.place.path, "x.iso") }

// event passes on an event about the file.
func (s *stepped) event(op fsnotify.Op) {
	s.handle(fsnotify.Event{Name: s.path(), Op: op})
}

// pass lets time go by, with every look that is due in it, and returns how many
// there were.
func (s *stepped) pass(d time.Duration) (looks int) {
	end := s.clock.Add(d)
	for next := s.nextDue(); !next.IsZero() && !next.After(end); next = s.nextDue() {
		s.clock = next
		s.judgeDue()
		looks++
	}
	s.clock = end
	return looks
}

// want requires that exactly these kinds were told since the last call.
func (s *stepped) want(kinds ...Kind) {
	s.t.Helper()
	for _, kind := range kinds {
		select {
		case e := <-s.told:
			if e.Kind != kind {
				s.t.Fatalf("%+v, want %s", e, kind)
			}
		default:
			s.t.Fatalf("nothing was told, want %s", kind)
		}
	}
	select {
	case e := <-s.told:
		s.t.Fatalf("%+v, want nothing", e)
	default:
	}
}

// TestForeignFileBeforeStart: without a lease, only time tells; and when that is
// over, nothing is due any more.
func TestForeignFileBeforeStart(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x.iso"), content)
	o := Options{Settle: 2 * time.Second, Quiet: time.Minute, Notice: 30 * time.Second}
	w := inSteps(t, dir, o)
	w.pass(o.Notice - 1)
	w.want()
	w.pass(1)
	w.want(Waiting)
	w.pass(o.Quiet - o.Notice - 1)
	w.want()
	w.pass(1)
	w.want(Complete)
	if next := w.nextDue(); !next.IsZero() {
		t.Errorf("a look is still due in %v", next.Sub(w.clock))
	}
}

// TestSlowWriter writes a piece every 1.5 s for a while, with a settle time of
// 2 s: nothing may be told before the end.
func TestSlowWriter(t *testing.T) {
	o := Options{Settle: 2 * time.Second, Quiet: 2 * time.Second}
	w := inSteps(t, t.TempDir(), o)
	file, err := os.Create(w.path())
	must(t, err)
	defer file.Close()
	w.event(fsnotify.Create)
	for range 100 {
		_, err := file.WriteString(content)
		must(t, err)
		w.event(fsnotify.Write)
		w.pass(1500 * time.Millisecond)
		w.want()
	}
	must(t, file.Close())
	w.pass(o.Settle / 2)
	w.want(Complete)
}

// TestClosedLate: a writer who keeps the file open for long after the last
// write raises no event by closing it.
func TestClosedLate(t *testing.T) {
	o := Options{Settle: 2 * time.Second, Quiet: time.Minute}
	w := inSteps(t, t.TempDir(), o)
	open := busy
	w.writers = func(string) (use, error) { return open, nil }
	write(t, w.path(), content)
	w.event(fsnotify.Create)
	if looks := w.pass(20 * time.Second); looks > 8 {
		t.Errorf("%d looks at an idle file", looks)
	}
	w.want()
	open = unused
	w.pass(10 * time.Second)
	w.want(Complete)
}

// TestForeign: what makes the wait for a file without a lease start again.
func TestForeign(t *testing.T) {
	const settle = 2 * time.Second
	unchecked := Options{Settle: settle, Quiet: time.Minute, Notice: never, GiveUp: never}
	whole := unchecked
	whole.Whole = lacking
	for _, tt := range []struct {
		name string
		o    Options
		wait time.Duration
		then func(path string) error
		op   fsnotify.Op
		more time.Duration // the further wait, 0: nothing is told
	}{
		{"nothing more", whole, 5 * settle, nil, 0, 1},
		{"nothing more, unchecked", unchecked, time.Minute, nil, 0, 1},
		{"times set", whole, 5 * settle, func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) }, fsnotify.Chmod, 5 * settle},
		{"mode set", whole, 5 * settle, func(p string) error { return os.Chmod(p, 0o600) }, fsnotify.Chmod, 5 * settle},
		{"grows", whole, 5 * settle, func(p string) error { return os.Truncate(p, 100) }, fsnotify.Write, 5 * settle},
		{"grows unseen", whole, 5 * settle, func(p string) error { return os.Truncate(p, 100) }, 0, 1 + 5*settle},
		{"grows, unchecked", unchecked, time.Minute, func(p string) error { return os.Truncate(p, 100) }, fsnotify.Write, time.Minute},
		{"shrinks", whole, 5 * settle, func(p string) error { return os.Truncate(p, 5) }, fsnotify.Write, 0},
		{"removed", whole, 5 * settle, os.Remove, fsnotify.Remove, 0},
		{"removed unseen", whole, 5 * settle, os.Remove, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := inSteps(t, t.TempDir(), tt.o)
			write(t, w.path(), content)
			w.event(fsnotify.Create)
			w.pass(tt.wait - 1)
			w.want()
			if tt.then != nil {
				must(t, tt.then(w.path()))
			}
			if tt.op != 0 {
				w.event(tt.op)
			}
			if tt.more == 0 {
				w.pass(10 * tt.wait)
				w.want()
				return
			}
			w.pass(tt.more - 1)
			w.want()
			w.pass(1)
			w.want(Complete)
		})
	}
}

// TestRewrittenAfterComplete: writing into a file that was told of already
// starts the wait again; a new mode or link does not.
func TestRewrittenAfterComplete(t *testing.T) {
	o := Options{Settle: 2 * time.Second, Whole: lacking}
	w := inSteps(t, t.TempDir(), o)
	write(t, w.path(), content)
	w.event(fsnotify.Create)
	w.pass(5 * o.Settle)
	w.want(Complete)

	must(t, os.Chmod(w.path(), 0o600))
	w.event(fsnotify.Chmod)
	w.rescan()
	w.pass(never)
	w.want()

	must(t, os.Chtimes(w.path(), time.Time{}, time.Unix(1, 0))) // as writing in place does
	w.event(fsnotify.Write)
	w.pass(5*o.Settle - 1)
	w.want()
	w.pass(1)
	w.want(Complete)
}

// TestRescanDoesNotRejuvenate: a rescan that comes more often than files are
// given up must not keep one from being refused.
func TestRescanDoesNotRejuvenate(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x.iso"), "")
	o := Options{Settle: 2 * time.Second, Quiet: time.Minute, Notice: never, GiveUp: 10 * time.Minute}
	w := inSteps(t, dir, o)
	for range 2 {
		w.pass(4 * time.Minute)
		w.again()
		w.want()
	}
	w.pass(2*time.Minute - 1)
	w.want()
	w.pass(1)
	w.want(Refused)
	w.again()
	w.pass(o.Settle)
	w.want(Refused)
}
