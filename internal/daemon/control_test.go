package daemon

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/test/esxisim"
)

// only returns the id of the only build.
func (r *rig) only() string {
	r.t.Helper()
	s := r.Snapshot()
	if len(s.Builds) != 1 {
		r.t.Fatalf("%d builds, want one", len(s.Builds))
	}
	return s.Builds[0].Build.ID()
}

func (r *rig) state(id string) build.State {
	for _, s := range r.Snapshot().Builds {
		if s.Build.ID() == id {
			return s.Build.State
		}
	}
	return ""
}

// awaitState follows Changed, as the bus does.
func (r *rig) awaitState(id string, want build.State) {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	for r.state(id) != want {
		select {
		case <-r.Changed():
		case <-deadline:
			r.t.Fatalf("%s is %s, want %s", id, r.state(id), want)
		}
	}
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// set changes what the steps do from now on.
func (f *fakeRunner) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeRunner) counts() (made, sent int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.made), len(f.sent)
}

func TestCancelRunning(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	r.f.block = make(chan struct{})
	r.addISO("6.7.0", "8169922")
	stop := r.run()
	<-r.Ready()
	<-r.f.started
	id := r.only()
	r.check(r.Cancel(t.Context(), id, "alice"))
	if got := r.state(id); got != build.Failed {
		t.Fatalf("Cancel returned, and the build is %s", got)
	}
	b := r.Snapshot().Builds[0].Build
	if b.Error == nil || b.Error.Message != "cancelled by alice" || !b.Cancelled() {
		t.Errorf("error %+v", b.Error)
	}
	if err := r.Cancel(t.Context(), id, "alice"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("cancelling it again: %v", err)
	}
	// Neither a reconciliation nor a restart brings it back.
	r.reconcile()
	stop()
	again := newRig(t, dir)
	again.run()
	<-again.Ready()
	again.awaitState(id, build.Failed)
	again.reconcile()
	if made, _ := again.f.counts(); made != 0 || again.state(id) != build.Failed {
		t.Fatalf("a cancelled build is %s and was started %d times", again.state(id), made)
	}
	r = again
	r.check(r.Retry(id, "alice"))
	r.awaitState(id, build.Done)
	if b := r.Snapshot().Builds[0].Build; b.Error != nil {
		t.Errorf("done, with the error %+v", b.Error)
	}
}

// Of two builds one waits; cancelling it leaves the running one alone.
func TestCancelQueued(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.block = make(chan struct{})
	r.addISO("6.7.0", "8169922")
	r.addISO("8.0.3", "24280767")
	r.run()
	<-r.Ready()
	<-r.f.started
	var waiting, running string
	for _, s := range r.Snapshot().Builds {
		if s.Queue == 1 {
			waiting = s.Build.ID()
		} else {
			running = s.Build.ID()
		}
	}
	r.check(r.Cancel(t.Context(), waiting, "alice"))
	if got := r.state(waiting); got != build.Failed {
		t.Errorf("the waiting build is %s", got)
	}
	close(r.f.block)
	r.awaitState(running, build.Done)
	if made, _ := r.f.counts(); made != 1 {
		t.Errorf("%d builds were made, want one", made)
	}
}

// A build that ends while somebody cancels it has ended.
func TestCancelTooLate(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.block = make(chan struct{})
	id := ""
	r.f.makeErr = func(b *build.Build) error {
		// The step does not look at its context any more.
		r.mu.Lock()
		r.live[b.ID()].by = "alice"
		r.mu.Unlock()
		return nil
	}
	r.addISO("6.7.0", "8169922")
	r.run()
	<-r.Ready()
	<-r.f.started
	id = r.only()
	close(r.f.block)
	r.awaitState(id, build.Done)
	if err := r.Cancel(t.Context(), id, "alice"); err == nil {
		t.Error("a build that is done was cancelled")
	}
}

func TestCancelGivesUpWaiting(t *testing.T) {
	r := newRig(t, t.TempDir())
	blocked := make(chan struct{})
	r.f.makeErr = func(*build.Build) error { <-blocked; return nil }
	r.addISO("6.7.0", "8169922")
	r.run()
	t.Cleanup(func() { close(blocked) })
	<-r.Ready()
	<-r.f.started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Cancel(ctx, r.only(), "alice"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRetry(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.makeErr = func(*build.Build) error { return fault.New(fault.Failed, "broken") }
	r.addISO("6.7.0", "8169922")
	r.run()
	<-r.Ready()
	r.until("failed", func(b map[string]*build.Build) bool { return states(b)[build.Failed] == 1 })
	id := r.only()
	// A failure that passes makes it wait; a retry does not.
	r.f.set(func() { r.f.makeErr = func(*build.Build) error { return fault.New(fault.TryLater, "busy") } })
	r.check(r.Retry(id, "alice"))
	r.until("waits", func(b map[string]*build.Build) bool { return b[id].State == build.Queued && !b[id].NotBefore.IsZero() })
	r.f.set(func() {
		r.f.makeErr, r.f.sendErr = nil, func(*build.Build) error { return fault.New(fault.Unavailable, "down") }
	})
	r.check(r.Retry(id, "alice"))
	r.until("waits for a target", func(b map[string]*build.Build) bool { return b[id].State == build.Built && !b[id].NotBefore.IsZero() })
	r.f.set(func() { r.f.sendErr = nil })
	r.check(r.Retry(id, "alice"))
	r.awaitState(id, build.Done)
	if err := r.Retry(id, "alice"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("a build that is done was retried: %v", err)
	}
}

func TestRebuildAndPublish(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.addISO("6.7.0", "8169922")
	r.run()
	<-r.Ready()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	id := r.only()
	for n, which := range []string{id, "esxi/6.7"} {
		got, err := r.Rebuild(which, "alice")
		if err != nil || got != id {
			t.Fatalf("rebuild %s: %q, %v", which, got, err)
		}
		r.awaitState(id, build.Done)
		if made, sent := r.f.counts(); made != n+2 || sent != n+2 {
			t.Errorf("made %d and sent %d times, want %d", made, sent, n+2)
		}
	}
	r.check(r.Publish(id, "alice"))
	r.until("published again", func(map[string]*build.Build) bool { _, sent := r.f.counts(); return sent == 4 })
	r.awaitState(id, build.Done)
	if made, _ := r.f.counts(); made != 3 {
		t.Errorf("made %d times, want 3", made)
	}
}

// Rebuild by name finds the build also when it failed.
func TestRebuildFailedByName(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.makeErr = func(*build.Build) error { return fault.New(fault.Failed, "broken") }
	r.addISO("6.7.0", "8169922")
	r.run()
	<-r.Ready()
	r.until("failed", func(b map[string]*build.Build) bool { return states(b)[build.Failed] == 1 })
	r.f.set(func() { r.f.makeErr = nil })
	id, err := r.Rebuild("esxi/6.7", "alice")
	r.check(err)
	r.awaitState(id, build.Done)
}

func TestControlRefuses(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.block = make(chan struct{})
	r.addISO("8.0.3", "24280767")
	r.run()
	<-r.Ready()
	<-r.f.started
	old := r.only()
	_, err := r.Rebuild(old, "alice")
	if fault.ClassOf(err) != fault.TryLater {
		t.Errorf("rebuilding a running build: %v", err)
	}
	if err := r.Publish(old, "alice"); fault.ClassOf(err) != fault.TryLater {
		t.Errorf("publishing what is not built: %v", err)
	}
	// A changed override makes another build of the ISO.
	r.override("default.cfg", "vmaccepteula\nrootpw secret-Passw0rd\ninstall --firstdisk\nreboot\n")
	r.until("another build", func(b map[string]*build.Build) bool { return len(b) == 2 || b[old] == nil && len(b) == 1 })
	for what, err := range map[string]error{
		"Retry": r.Retry(old, "alice"), "Publish": r.Publish(old, "alice"), "Rebuild": func() error { _, err := r.Rebuild(old, "alice"); return err }(),
	} {
		// It is removed as soon as its worker has let go of it.
		if fault.ClassOf(err) != fault.Usage || !strings.Contains(err.Error(), "has taken its place") && !errors.Is(err, ErrNoBuild) {
			t.Errorf("%s of a build whose inputs have changed: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"Retry": r.Retry("x", "alice"), "Publish": r.Publish("", "alice"), "Cancel": r.Cancel(t.Context(), "../x", "alice"),
		"Rebuild":    func() error { _, err := r.Rebuild("esxi/9.9", "alice"); return err }(),
		"Screenshot": func() error { _, err := r.Screenshot(t.Context(), ".."); return err }(),
		"Console":    func() error { _, err := r.Console(".."); return err }(),
	} {
		if !errors.Is(err, ErrNoBuild) {
			t.Errorf("%s of a build that does not exist: %v", what, err)
		}
	}
}

func TestBuildFromOpenFile(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.run()
	<-r.Ready()
	path := filepath.Join(t.TempDir(), "esxi.iso")
	r.check(esxisim.BuildISO(t.Context(), esxisim.Options{Version: "6.7", Build: "8169922", PayloadMiB: 1}, path))
	text, err := os.ReadFile(path)
	r.check(err)
	r.check(os.WriteFile(path, bytes.Replace(text, []byte("Version: 6.7.0"), []byte("Version: 6.6.0"), 1), 0o600))
	f, err := os.Open(path)
	r.check(err)
	defer f.Close()
	id, err := r.Build(t.Context(), f, "/home/alice/my\x1b.iso", "alice")
	r.check(err)
	r.awaitState(id, build.Done)
	if e, err := r.library.read(r.Snapshot().Builds[0].Build.Plan.ISO.SHA256); err != nil || e.Path != "my?.iso" {
		t.Errorf("recorded as %q, %v", e.Path, err)
	}
	// The same once more builds nothing; what is no installer leaves nothing.
	if again, err := r.Build(t.Context(), f, "b.iso", "alice"); err != nil || again != id {
		t.Errorf("again: %q, %v", again, err)
	}
	for text, want := range map[string]int{"What my?.iso says": 1, "b.iso is known already": 1, ".move-": 0} {
		if got := r.logs.count("", text); got != want {
			t.Errorf("%q is in the log %d times, want %d", text, got, want)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken.iso")
	r.check(os.WriteFile(broken, make([]byte, 64<<10), 0o600))
	for _, bad := range []string{broken, t.TempDir(), "/dev/zero"} {
		f, err := os.Open(bad)
		r.check(err)
		if _, err := r.Build(t.Context(), f, "c"+strings.Repeat("é", maxRejected), "alice"); fault.ClassOf(err) != fault.Input || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: %v", bad, err)
		}
		f.Close()
	}
	entries, err := os.ReadDir(r.library.dir)
	r.check(err)
	if len(entries) != 2 { // the ISO and its record
		t.Errorf("in the library: %v", entries)
	}
}

// What is shown of a running build is a copy, with the step and the time left.
func TestSnapshotOfRunningBuild(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.makeErr = func(b *build.Build) error {
		began := time.Now()
		event := func(e build.Event) {
			e.Build = b.ID()
			r.observe(e)
		}
		event(build.Event{Time: began, Step: build.StepInstall, State: build.EventStarted, Percent: -1})
		b.Steps[build.StepInstall] = build.StepRecord{Seconds: 1}
		event(build.Event{Time: began, Step: build.StepInstall, State: build.EventDone})
		event(build.Event{Time: began, Step: build.StepVerify, State: build.EventStarted, Percent: -1})
		event(build.Event{Time: began.Add(10 * time.Second), Step: build.StepVerify, State: build.EventRunning, Percent: 25, Done: 1, Total: 4})
		r.f.started <- "verifying"
		<-r.f.block
		return nil
	}
	r.f.block = make(chan struct{})
	r.addISO("6.7.0", "8169922")
	r.run()
	<-r.Ready()
	<-r.f.started
	r.f.block <- struct{}{}
	<-r.Ready()
	<-r.f.started
	s := r.Snapshot()
	got := s.Builds[0]
	if got.Active == nil || got.Active.Step != build.StepVerify || got.Active.Percent != 25 || got.Active.Total != 4 {
		t.Fatalf("active: %+v", got.Active)
	}
	if got.Active.Left >= 0 { // nothing was ever published
		t.Errorf("the build ends in %v although no build was ever published", got.Active.Left)
	}
	if _, ok := got.Build.Steps[build.StepInstall]; !ok || len(s.Images) != 0 {
		t.Errorf("steps %v, images %v", got.Build.Steps, s.Images)
	}
	got.Build.Steps[build.StepPack] = build.StepRecord{} // ours alone
	close(r.f.block)
	r.awaitState(got.Build.ID(), build.Done)
	s = r.Snapshot()
	if len(s.Images) != 1 || s.Images[0].ID != "esxi-6.7-8169922" || s.Builds[0].Active != nil {
		t.Errorf("afterwards: images %+v, active %+v", s.Images, s.Builds[0].Active)
	}
	if _, ok := s.Builds[0].Build.Steps[build.StepPack]; ok {
		t.Error("a change of the copy changed the record")
	}
}

// A step that a unit began under an earlier esxid began then.
func TestLiveOfOutlivingUnit(t *testing.T) {
	began := time.Now().Add(-time.Hour)
	b := &build.Build{Plan: build.Plan{ID: "8.0.3-1-00000000"}, Job: &build.JobRecord{Step: build.StepInstall, Started: began}}
	l := &live{}
	d := &Daemon{builds: map[string]*build.Build{b.ID(): b}, live: map[string]*live{b.ID(): l}, changed: make(chan struct{}, 1)}
	for step, want := range map[string]time.Time{build.StepInstall: began, build.StepPack: began.Add(time.Minute)} {
		d.observe(build.Event{Build: b.ID(), Step: step, State: build.EventStarted, Time: began.Add(time.Minute)})
		if a := l.active(); a == nil || !a.Started.Equal(want) {
			t.Errorf("%s: %+v, want it to have begun at %v", step, a, want)
		}
	}
}
