package daemon

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/watch"
)

// rejectMany has the watch refuse files of these names, the first one hours before the
// last.
func (r *rig) rejectMany(size int, names ...string) {
	r.t.Helper()
	for i, name := range names {
		path := filepath.Join(r.incoming(), name)
		r.check(os.WriteFile(path, make([]byte, size), 0o600))
		r.onISO(r.t.Context(), watch.Event{Kind: watch.Refused, Path: path, Reason: "is no good"})
		r.rejectedAgo(name, len(names)-i)
	}
}

func (r *rig) rejectedAgo(name string, hours int) {
	r.t.Helper()
	at := time.Now().Add(-time.Duration(hours) * time.Hour)
	r.check(os.Chtimes(filepath.Join(r.rejected(), name+".reason"), at, at))
}

// The newest rejected files stay, each with its reason, and all that is not esxid's,
// also where a rejected link leads to.
func TestRetentionOfRejected(t *testing.T) {
	r := prepared(t)
	r.cfg.Retention.Rejected = 2
	elsewhere := filepath.Join(t.TempDir(), "precious")
	r.check(os.Mkdir(elsewhere, 0o700))
	r.check(os.WriteFile(filepath.Join(elsewhere, "inside"), nil, 0o600))
	for name, drop := range map[string]func(path string) error{
		"link.iso": func(p string) error { return os.Symlink(elsewhere, p) },
		"dir.iso":  func(p string) error { return os.MkdirAll(filepath.Join(p, "inside"), 0o700) },
	} {
		path := filepath.Join(r.incoming(), name)
		r.check(drop(path))
		r.onISO(t.Context(), watch.Event{Kind: watch.Refused, Path: path, Reason: "is no good"})
		r.rejectedAgo(name, 9)
	}
	r.rejectMany(1, "z.iso", "notes.txt", "b.iso", "a.iso")
	for _, name := range []string{".reason", "alone.iso", "gone.iso.reason", "kept"} {
		r.check(os.WriteFile(filepath.Join(r.rejected(), name), nil, 0o600))
	}
	r.check(os.Mkdir(filepath.Join(r.rejected(), "kept.reason"), 0o700))
	r.removeAll = func(path string) error {
		if !r.mu.TryLock() {
			t.Errorf("all have to wait for the removal of %s", path)
		} else {
			r.mu.Unlock()
		}
		return os.RemoveAll(path)
	}
	r.reconcile()
	want := ".reason a.iso a.iso.reason alone.iso b.iso b.iso.reason gone.iso.reason kept kept.reason"
	if got := names(t, r.rejected()); got != want {
		t.Errorf("rejected holds\n%s, want\n%s", got, want)
	}
	if got := names(t, elsewhere); got != "inside" {
		t.Errorf("where the link leads to: %q", got)
	}
	for _, name := range []string{"link.iso", "dir.iso", "z.iso", "notes.txt"} {
		if n := r.logs.count("", "Removed "+filepath.Join(r.rejected(), name)+","); n != 1 {
			t.Errorf("the removal of %s is said %d times", name, n)
		}
	}
	r.cfg.Retention.Rejected = 0
	r.reconcile()
	if got := names(t, r.rejected()); got != ".reason alone.iso gone.iso.reason kept kept.reason" {
		t.Errorf("with none to be kept, rejected holds %s", got)
	}
}

// Nothing else has to happen for one more than there may be to go.
func TestRejectedOnceTooMany(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.cfg.Retention.Rejected = 1
	r.run()
	r.until("ready", func(map[string]*build.Build) bool {
		select {
		case <-r.ready:
			return true
		default:
			return false
		}
	})
	for _, name := range []string{"a.iso", "b.iso"} {
		r.check(os.WriteFile(filepath.Join(r.incoming(), name), []byte("<!DOCTYPE html>"), 0o600))
		r.until(name+" is the only one", func(map[string]*build.Build) bool {
			return names(t, r.rejected()) == name+" "+name+".reason"
		})
	}
}

// Rejected files count for the size limit, and go before any build.
func TestSizeLimitTakesRejectedFirst(t *testing.T) {
	const size = 1 << 20
	r := prepared(t)
	old := &build.Build{Plan: build.Plan{ID: "8.0.3-1-00000000", Name: "esxi/8.0"}, State: build.Failed}
	r.builds[old.ID()] = old
	r.check(os.Mkdir(r.store.Dir(old.ID()), 0o750))
	r.check(os.WriteFile(filepath.Join(r.store.Dir(old.ID()), "console.log"), make([]byte, size), 0o600))
	r.rejectMany(size, "c.iso", "b.iso", "a.iso")
	for _, tt := range []struct {
		limit int64
		left  string
		old   bool
	}{
		{5 * size, "a.iso a.iso.reason b.iso b.iso.reason c.iso c.iso.reason", true},
		{3*size + size/2, "a.iso a.iso.reason b.iso b.iso.reason", true},
		{size / 2, "", false},
	} {
		r.mu.Lock()
		r.shrink(tt.limit, []*build.Build{old}, nil)
		r.mu.Unlock()
		r.reconcile() // removes what has been put aside
		if got := names(t, r.rejected()); got != tt.left || (r.builds[old.ID()] != nil) != tt.old {
			t.Errorf("limit %d: rejected holds %q, the old build is %v", tt.limit, got, r.builds[old.ID()])
		}
	}
}

// A directory that nobody but its owner may read can be rejected; it does not end the
// measuring.
func TestMeasuringForgives(t *testing.T) {
	dir := t.TempDir()
	r := &rig{t: t}
	r.check(os.Mkdir(filepath.Join(dir, "theirs"), 0o700))
	r.check(os.WriteFile(filepath.Join(dir, "x"), []byte(strings.Repeat("x", 8192)), 0o600))
	for _, d := range []string{dir, filepath.Dir(dir)} {
		r.check(os.Chmod(d, 0o755))
	}
	type result struct {
		used int64
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setfsuid(65534); err != nil {
			done <- result{0, err}
			return
		}
		used, err := diskUsage(dir)
		done <- result{used, err}
	}()
	if got := <-done; got.err != nil || got.used < 8192 {
		t.Errorf("%d bytes, %v", got.used, got.err)
	}
}
