package watch

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// stepped is a watch whose loop is the test, on synctest's clock: what happens
// between two looks then takes no time, however busy the machine is.
type stepped struct {
	*isos
	t    *testing.T
	told chan Event
}

func inSteps(t *testing.T, dir string, o Options, test func(w stepped)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newISOs(t.Context(), dir, o)
		must(t, err)
		defer w.in.close()
		told := make(chan Event, 100)
		w.ch, w.writers = told, foreign
		test(stepped{w, t, told})
	})
}

// event passes on an event about x.iso.
func (s stepped) event(mask uint32) {
	s.handle([]notice{{wd: s.place.wd, mask: mask, name: "x.iso"}})
}

// pass lets time go by, with every look that is due in it.
func (s stepped) pass(d time.Duration) {
	end := time.Now().Add(d)
	for next := s.nextDue(); !next.IsZero() && !next.After(end); next = s.nextDue() {
		time.Sleep(time.Until(next))
		s.judgeDue()
	}
	time.Sleep(time.Until(end))
}

// want requires that exactly these kinds were told since the last call.
func (s stepped) want(kinds ...Kind) {
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

// TestForeignFileBeforeStart: with neither lease nor event, only time tells;
// and when that is over, nothing is due any more.
func TestForeignFileBeforeStart(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x.iso"), content)
	o := Options{Settle: 2 * time.Second, Quiet: time.Minute, Notice: 30 * time.Second}
	inSteps(t, dir, o, func(w stepped) {
		w.pass(o.Notice - 1)
		w.want()
		w.pass(1)
		w.want(Waiting)
		w.pass(o.Quiet - o.Notice - 1)
		w.want()
		w.pass(1)
		w.want(Complete)
		if next := w.nextDue(); !next.IsZero() {
			t.Errorf("a look is still due in %v", time.Until(next))
		}
	})
}

// TestSlowWriter writes a piece every 1.5 s for a while, with a settle time of
// 2 s: nothing may be told before the end.
func TestSlowWriter(t *testing.T) {
	o := Options{Settle: 2 * time.Second, Quiet: 2 * time.Second}
	inSteps(t, t.TempDir(), o, func(w stepped) {
		file, err := os.Create(filepath.Join(w.place.path, "x.iso"))
		must(t, err)
		defer file.Close()
		w.event(unix.IN_CREATE)
		for range 100 {
			_, err := file.WriteString(content)
			must(t, err)
			w.pass(1500 * time.Millisecond)
			w.want()
		}
		must(t, file.Close())
		w.event(unix.IN_CLOSE_WRITE)
		w.pass(o.Settle - 1)
		w.want()
		w.pass(1)
		w.want(Complete)
	})
}

// TestClose: what a close says about a foreign file, and what makes it void.
func TestClose(t *testing.T) {
	o := Options{Settle: 2 * time.Second, Quiet: never, Notice: never, GiveUp: never}
	for _, tt := range []struct {
		name string
		then func(path string) error
		mask uint32
		want []Kind
	}{
		{"nothing more", func(string) error { return nil }, 0, []Kind{Complete}},
		{"times set", func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) }, unix.IN_ATTRIB, []Kind{Complete}},
		{"mode set", func(p string) error { return os.Chmod(p, 0o600) }, unix.IN_ATTRIB, []Kind{Complete}},
		{"grows again", func(p string) error { return os.Truncate(p, 100) }, 0, nil},
		{"grows again and is closed", func(p string) error { return os.Truncate(p, 100) }, unix.IN_CLOSE_WRITE, []Kind{Complete}},
		{"removed", os.Remove, unix.IN_DELETE, nil},
		{"removed unseen", os.Remove, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inSteps(t, t.TempDir(), o, func(w stepped) {
				path := filepath.Join(w.place.path, "x.iso")
				write(t, path, content)
				w.event(unix.IN_CREATE)
				w.event(unix.IN_CLOSE_WRITE)
				w.pass(o.Settle - 1)
				w.want()
				must(t, tt.then(path))
				if tt.mask != 0 {
					w.event(tt.mask)
				}
				w.pass(3 * o.Settle)
				w.want(tt.want...)
			})
		})
	}
}

// TestRewrittenAfterComplete: writing into a file that was told of already is
// no longer covered by the close from before.
func TestRewrittenAfterComplete(t *testing.T) {
	o := Options{Settle: 2 * time.Second, Quiet: never, Notice: never}
	inSteps(t, t.TempDir(), o, func(w stepped) {
		path := filepath.Join(w.place.path, "x.iso")
		write(t, path, content)
		w.event(unix.IN_CREATE)
		w.event(unix.IN_CLOSE_WRITE)
		w.pass(o.Settle)
		w.want(Complete)
		must(t, os.Chtimes(path, time.Time{}, time.Unix(1, 0))) // as writing in place does
		w.rescan()
		w.pass(10 * o.Settle)
		w.want()
		w.event(unix.IN_CLOSE_WRITE)
		w.pass(o.Settle)
		w.want(Complete)
	})
}

// TestRescanDoesNotRejuvenate: a rescan that comes more often than files are
// given up must not keep one from being refused.
func TestRescanDoesNotRejuvenate(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x.iso"), "")
	o := Options{Settle: 2 * time.Second, Quiet: time.Minute, Notice: never, GiveUp: 10 * time.Minute}
	inSteps(t, dir, o, func(w stepped) {
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
	})
}
