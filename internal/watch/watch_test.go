package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// patience is how long a test waits for an event that must come, on however busy a machine.
const patience = time.Minute

// never is longer than any test.
const never = time.Hour

// quick are options with which a good file is told within some milliseconds
// and nothing is told of, or refused, for having been there too long.
func quick() Options {
	return Options{Settle: 20 * time.Millisecond, Quiet: 40 * time.Millisecond, Notice: never, GiveUp: never, Rescan: never}
}

// follower reads a watch's events in a test.
type follower struct {
	t   *testing.T
	dir string
	ch  <-chan Event
}

func followISOs(t *testing.T, dir string, o Options) *follower {
	t.Helper()
	ch, err := ISOs(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return &follower{t, dir, ch}
}

func (f *follower) next() Event {
	f.t.Helper()
	select {
	case e, ok := <-f.ch:
		if !ok {
			f.t.Fatal("the watch has ended")
		}
		return e
	case <-time.After(patience):
		f.t.Fatal("no event came")
	}
	return Event{}
}

// want requires the next event to be this one; name is below the directory.
func (f *follower) want(kind Kind, name string) Event {
	f.t.Helper()
	e := f.next()
	if e.Kind != kind || e.Path != filepath.Join(f.dir, name) {
		f.t.Fatalf("event %+v, want %s %s", e, kind, name)
	}
	return e
}

func (f *follower) wantReason(kind Kind, name, reason string) {
	f.t.Helper()
	if e := f.want(kind, name); !strings.Contains(e.Reason, reason) {
		f.t.Fatalf("reason %q, want one with %q", e.Reason, reason)
	}
}

// wantWaiting waits until a file is told of as waiting for this reason. On a
// busy machine it may have been waiting for another one before.
func (f *follower) wantWaiting(name, reason string) {
	f.t.Helper()
	for !strings.Contains(f.want(Waiting, name).Reason, reason) {
		continue
	}
}

// wantNothing requires that nothing is told within a settle time: it adds a file,
// which must be told next.
func (f *follower) wantNothing() {
	f.t.Helper()
	name := "zz-" + time.Now().Format("150405.000000000") + ".iso"
	put(f.t, filepath.Join(f.dir, name), content)
	f.want(Complete, name)
}

// put makes or replaces a file all at once.
func put(t *testing.T, path, text string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".put")
	write(t, tmp, text)
	must(t, os.Rename(tmp, path))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "x")
	for _, tt := range []struct{ path, text string }{
		{filepath.Join(dir, "missing"), "it does not exist: create it: mkdir -p " + dir + "/missing"},
		{filepath.Join(dir, "missing", "too"), "it does not exist"},
		{file, "it is not a directory"},
	} {
		_, isoErr := ISOs(t.Context(), tt.path, Options{})
		_, cfgErr := Kickstarts(t.Context(), tt.path, Options{})
		for _, err := range []error{isoErr, cfgErr} {
			if fault.ClassOf(err) != fault.Config || !strings.HasPrefix(err.Error(), "cannot watch "+tt.path+": "+tt.text) {
				t.Errorf("%v (class %d), want: %s", err, fault.ClassOf(err), tt.text)
			}
		}
	}
}

func TestWatchError(t *testing.T) {
	for _, tt := range []struct {
		cause error
		class fault.Class
		text  string
	}{
		{unix.ENOSPC, fault.Unavailable, "sysctl fs.inotify.max_user_watches="},
		{unix.EMFILE, fault.Unavailable, "sysctl fs.inotify.max_user_instances="},
		{unix.EACCES, fault.NotPermitted, "may not read it"},
		{unix.ENOENT, fault.Config, "mkdir -p /dir"},
		{unix.ENOTDIR, fault.Config, "not a directory"},
		{unix.ENOMEM, fault.Failed, "cannot allocate memory"},
		{&fs.PathError{Op: "open", Path: "/dir", Err: unix.EACCES}, fault.NotPermitted, "may not read it"},
	} {
		err := watchError("/dir", tt.cause)
		if fault.ClassOf(err) != tt.class || !errors.Is(err, tt.cause) ||
			!strings.HasPrefix(err.Error(), "cannot watch /dir: ") || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("watchError(%v) = %v (class %d), want class %d with %q", tt.cause, err, fault.ClassOf(err), tt.class, tt.text)
		}
	}
}

func TestEndsWithContext(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.iso"), "a")
	write(t, filepath.Join(dir, "b.iso"), "b")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch, err := ISOs(ctx, dir, quick())
	must(t, err)
	cfg, err := Kickstarts(ctx, dir, quick())
	must(t, err)
	// Both files fall due together, so after the first event the watch is about
	// to send, or sending, the second, which nobody reads.
	f := &follower{t, dir, ch}
	f.want(Complete, "a.iso")
	cancel()
	for _, ch := range []<-chan Event{ch, cfg} {
		deadline := time.After(patience)
		for open := true; open; {
			select {
			case _, open = <-ch:
			case <-deadline:
				t.Fatal("the channel was not closed")
			}
		}
	}
}
