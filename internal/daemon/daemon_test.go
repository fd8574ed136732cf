package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/publish"
)

// fakeRunner stands for the steps: it records what it was asked for and fails
// as it is told to.
type fakeRunner struct {
	mu      sync.Mutex
	made    []string // boot resource names and ESXi builds, in order
	sent    []string
	makeErr func(*build.Build) error
	sendErr func(*build.Build) error
	store   *build.Store
	block   chan struct{} // if not nil, Make waits for it or for the context
	// if not nil, Publish does
	blockSend chan struct{}
	started   chan string
	address   string // of the target it publishes to
}

func (f *fakeRunner) Make(ctx context.Context, b *build.Build) error {
	f.mu.Lock()
	f.made = append(f.made, what(b))
	block, fail, store := f.block, f.makeErr, f.store
	f.mu.Unlock()
	f.started <- what(b)
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		if err := fail(b); err != nil {
			return &build.StepError{Step: build.StepInstall, Err: err}
		}
	}
	b.Steps[build.StepVerify] = build.StepRecord{}
	b.Image = &build.ImageRecord{SHA256: "sum-" + b.ID()}
	return placeImage(store, b)
}

// placeImage puts a manifest, and no image, where the image of a build is.
func placeImage(store *build.Store, b *build.Build) error {
	text, err := json.Marshal(build.Manifest{
		Format: 1, File: build.ImageName(b.Plan), Name: b.Plan.Name, Title: b.Plan.Title,
		SHA256: strings.Repeat("0", 64), PackedSize: 1, Build: b.ID(),
	})
	if err != nil {
		return err
	}
	dir := store.ImageDir(b.Plan)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, build.ManifestName), text, 0o640)
}

func (f *fakeRunner) Publish(ctx context.Context, b *build.Build) error {
	f.mu.Lock()
	f.sent = append(f.sent, what(b))
	block := f.blockSend
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sendErr != nil {
		if err := f.sendErr(b); err != nil {
			return err
		}
	}
	b.Published = map[string]build.Publication{"t": {Address: cmp.Or(f.address, "here"), SHA256: b.Image.SHA256}}
	return nil
}

func what(b *build.Build) string { return b.Plan.Name + " " + b.Plan.ISO.Build }

type fakeTarget struct{ address string }

func (fakeTarget) Name() string                { return "t" }
func (f fakeTarget) Address() string           { return cmp.Or(f.address, "here") }
func (fakeTarget) Check(context.Context) error { return nil }
func (fakeTarget) Publish(context.Context, publish.Image, func(done, total int64)) (publish.Result, error) {
	return publish.Result{}, errors.New("the runner publishes")
}

// rig is a daemon on a temporary state directory.
type rig struct {
	*Daemon
	t    *testing.T
	f    *fakeRunner
	cfg  *config.Config
	logs *logbook
}

func newRig(t *testing.T, dir string) *rig {
	t.Helper()
	cfg := config.Default()
	cfg.StateDir, cfg.RuntimeDir, cfg.KickstartDir = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "kickstart.d")
	cfg.Watch.Settle = 20 * time.Millisecond
	logs := newLogbook(t)
	d, err := New(func() (*config.Config, error) { return cfg, nil }, "test", slog.New(logs))
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeRunner{started: make(chan string, 100)}
	d.runner = func() runner {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.store = d.store
		return f
	}
	d.inUse.Store(&settings{cfg, []publish.Publisher{fakeTarget{}}})
	return &rig{d, t, f, cfg, logs}
}

// run starts the daemon and returns a function that stops it.
func (r *rig) run() (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// addISO puts an admitted ISO into the library of a daemon that does not run yet.
func (r *rig) addISO(version, number string) string {
	r.t.Helper()
	sum := fmt.Sprintf("%064s", number)
	r.addEntry(entry{Info: iso.Info{Path: "x.iso", Size: 3, SHA256: sum, Product: "VMware ESXi", Version: version, Build: number}})
	return sum
}

func (r *rig) addEntry(e entry) {
	r.t.Helper()
	lib, err := openLibrary(filepath.Join(r.cfg.StateDir, "isos"))
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(r.t.TempDir(), "x.iso")
	if err := os.WriteFile(file, []byte("iso"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := lib.add(r.t.Context(), e, file); err != nil {
		r.t.Fatal(err)
	}
}

// override puts a kickstart override in place in one go, so that no half of it
// is taken for one.
func (r *rig) override(name, text string) {
	r.t.Helper()
	tmp := filepath.Join(r.t.TempDir(), name)
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(r.cfg.KickstartDir, name)); err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a condition on the builds.
func (r *rig) until(what string, ok func(builds map[string]*build.Build) bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		good := ok(r.builds)
		r.mu.Unlock()
		if good {
			return
		}
	}
	r.t.Fatalf("timed out: %s", what)
}

func states(builds map[string]*build.Build) map[build.State]int {
	n := map[build.State]int{}
	for _, b := range builds {
		n[b.State]++
	}
	return n
}

func TestBuildsAndPublishes(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.addISO("6.7.0", "8169922")
	r.addISO("8.0.3", "24280767")
	r.run()
	r.until("both done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 2 })
	if len(r.f.made) != 2 || len(r.f.sent) != 2 {
		t.Errorf("made %v, sent %v", r.f.made, r.f.sent)
	}
}

func TestRestartDoesNothingAgain(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	r.addISO("6.7.0", "8169922")
	stop := r.run()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	stop()
	again := newRig(t, dir)
	stop = again.run()
	again.until("loaded", func(b map[string]*build.Build) bool { return len(b) == 1 })
	stop()
	if len(again.f.made) != 0 || len(again.f.sent) != 0 {
		t.Errorf("after the restart: made %v, sent %v", again.f.made, again.f.sent)
	}
}

func TestInterruptedBuildGoesOn(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	r.f.block = make(chan struct{})
	r.addISO("6.7.0", "8169922")
	stop := r.run()
	<-r.f.started
	stop()
	again := newRig(t, dir)
	again.run()
	again.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
}

// The name belongs to the highest build number, whatever was first.
func TestTwoISOsOfOneName(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.addISO("8.0.3", "24280767")
	r.addISO("8.0.2", "22380479")
	r.run()
	r.until("one done, one built", func(b map[string]*build.Build) bool {
		n := states(b)
		return n[build.Done] == 1 && n[build.Built] == 1
	})
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if len(r.f.made) != 2 {
		t.Errorf("made %v", r.f.made)
	}
	for _, s := range r.f.sent {
		if s != "esxi/8.0 24280767" {
			t.Errorf("published %s", s)
		}
	}
}

func TestKickstartChangeRebuildsWhatItAffects(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.addISO("6.7.0", "8169922")
	r.addISO("8.0.3", "24280767")
	r.run()
	r.until("both done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 2 })
	text := "vmaccepteula\ninstall --firstdisk=local --overwritevmfs --novmfsondisk\nnetwork --bootproto=dhcp --device=vmnic0\n"
	r.override("8.0.cfg", text)
	r.until("a third build", func(b map[string]*build.Build) bool { return len(b) == 3 && states(b)[build.Done] == 3 })
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if got := strings.Join(r.f.made[2:], ", "); got != "esxi/8.0 24280767" {
		t.Errorf("rebuilt: %s", got)
	}
}

func TestChangeStopsARunningBuild(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.block = make(chan struct{})
	r.addISO("8.0.3", "24280767")
	r.run()
	<-r.f.started
	r.override("8.0.cfg", "vmaccepteula\n")
	<-r.f.started // the second build can only start when the first has stopped
	close(r.f.block)
	r.until("only the new build", func(b map[string]*build.Build) bool { return len(b) == 1 && states(b)[build.Done] == 1 })
}

func TestFailures(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		state build.State
	}{
		{"bad kickstart", fault.New(fault.Input, "kickstart"), build.Failed},
		{"installer failed", errors.New("installer"), build.Failed},
		{"disk full", fault.New(fault.CannotWrite, "no space"), build.Queued},
		{"QEMU missing", fault.New(fault.Unavailable, "no qemu"), build.Queued},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, t.TempDir())
			r.f.makeErr = func(*build.Build) error { return tt.err }
			r.addISO("6.7.0", "8169922")
			stop := r.run()
			r.until("an error", func(builds map[string]*build.Build) bool {
				for _, b := range builds {
					return b.Error != nil && b.State == tt.state
				}
				return false
			})
			stop()
			for _, b := range r.builds {
				if b.Error.Step != build.StepInstall || !strings.Contains(b.Error.Message, tt.err.Error()) {
					t.Errorf("error = %+v", b.Error)
				}
				if waits := !b.NotBefore.IsZero(); waits != (tt.state == build.Queued) {
					t.Errorf("not before %v in state %s", b.NotBefore, b.State)
				}
			}
		})
	}
}

// MAAS may be down for an hour: the image waits, other builds go on.
func TestPublishingIsRetriedLater(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.f.sendErr = func(b *build.Build) error {
		if b.Plan.Name == "esxi/6.7" {
			return fault.New(fault.TryLater, "MAAS is down")
		}
		return nil
	}
	r.addISO("6.7.0", "8169922")
	r.addISO("8.0.3", "24280767")
	r.run()
	r.until("one waits, one is done", func(b map[string]*build.Build) bool {
		n := states(b)
		return n[build.Built] == 1 && n[build.Done] == 1
	})
	r.f.mu.Lock()
	r.f.sendErr = nil
	r.f.mu.Unlock()
	r.mu.Lock()
	for _, b := range r.builds {
		b.NotBefore = time.Time{} // an hour later
	}
	r.mu.Unlock()
	wake(r.publishWake)
	r.until("both done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 2 })
}

func TestBackoffGrowsToALimit(t *testing.T) {
	r := newRig(t, t.TempDir())
	sum := r.addISO("6.7.0", "8169922")
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	r.reconcile()
	b := r.builds[r.current[sum]]
	b.State = build.Building
	last := time.Duration(0)
	for range 12 {
		r.later(b, build.Queued, fault.New(fault.TryLater, "x"))
		pause := time.Until(b.NotBefore)
		if pause < last-2*time.Second || pause > lastRetry {
			t.Fatalf("pause after %d tries = %v, before %v", b.Attempts, pause, last)
		}
		last, b.State = pause, build.Building
	}
	if last < lastRetry-2*time.Second {
		t.Errorf("last pause = %v, want about %v", last, lastRetry)
	}
}

// A clock that was years ahead must not make a build wait for years.
func TestClockSetBack(t *testing.T) {
	r := newRig(t, t.TempDir())
	sum := r.addISO("6.7.0", "8169922")
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	r.reconcile()
	b := r.builds[r.current[sum]]
	ready := func(*build.Build) bool { return true }
	b.NotBefore = time.Now().Add(lastRetry / 2)
	if got, due := r.next(ready); got != nil || !due.Equal(b.NotBefore) {
		t.Errorf("next = %v, %v; want to wait until %v", got, due, b.NotBefore)
	}
	b.NotBefore = time.Now().AddDate(4, 0, 0)
	if got, _ := r.next(ready); got != b {
		t.Errorf("next = %v, want the build", got)
	}
}

// Between being taken and being started a build may become unwanted.
func TestUnwantedBuildIsNotStarted(t *testing.T) {
	r := newRig(t, t.TempDir())
	sum := r.addISO("6.7.0", "8169922")
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	r.reconcile()
	b, _ := r.next(func(*build.Build) bool { return true })
	delete(r.current, sum)
	r.work(t.Context(), b, func(ctx context.Context, _ *build.Build) error { return ctx.Err() })
	if b.State != build.Queued || r.isRunning(b) {
		t.Errorf("state = %s, want queued", b.State)
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	unlock, err := newRig(t, dir).prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := newRig(t, dir).prepare(); fault.ClassOf(err) != fault.TryLater || !strings.Contains(err.Error(), "another esxid") {
		t.Errorf("err = %v", err)
	}
}

func TestRejected(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.run()
	drop := func(name, text string) {
		t.Helper()
		tmp := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.until("incoming exists", func(map[string]*build.Build) bool { _, err := os.Stat(r.incoming()); return err == nil })
		if err := os.Rename(tmp, filepath.Join(r.incoming(), name)); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"windows.iso", "windows.1.iso"} {
		drop("windows.iso", "MZ not an ISO "+strings.Repeat("x", 40<<10))
		reason := filepath.Join(r.rejected(), want+".reason")
		r.until("rejected "+want, func(map[string]*build.Build) bool {
			_, err := os.Stat(filepath.Join(r.rejected(), want))
			return err == nil
		})
		text, err := os.ReadFile(reason)
		if err != nil || !strings.Contains(string(text), "windows.iso") {
			t.Errorf("try %d: reason = %q, %v", i, text, err)
		}
	}
}

func TestRetentionKeepsWhatIsCurrent(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.cfg.Retention.ImagesPerName, r.cfg.Retention.FailedBuilds = 1, 0
	r.addISO("8.0.3", "24280767")
	r.run()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	for i := range 3 {
		text := fmt.Sprintf("vmaccepteula\n# %d\n", i)
		r.override("8.0.cfg", text)
		r.until("rebuilt", func(map[string]*build.Build) bool {
			r.f.mu.Lock()
			defer r.f.mu.Unlock()
			return len(r.f.sent) == i+2
		})
	}
	r.until("one left", func(b map[string]*build.Build) bool { return len(b) == 1 && states(b)[build.Done] == 1 })
	r.until("one directory left", func(map[string]*build.Build) bool {
		left, err := os.ReadDir(r.store.Builds)
		return err == nil && len(left) == 1
	})
}

// Of one name the newest ISOs stay, and with them their images.
func TestRetentionRetiresOldISOs(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.cfg.Retention.ImagesPerName = 2
	for _, number := range []string{"22380479", "24280767", "24022510"} {
		r.addISO("8.0.3", number)
	}
	r.addISO("6.7.0", "8169922")
	r.run()
	r.until("the newest two and the other name", func(b map[string]*build.Build) bool {
		n := states(b)
		return len(b) == 3 && n[build.Done] == 2 && n[build.Built] == 1
	})
	entries, damaged, err := r.library.all()
	if err != nil || len(damaged) > 0 {
		t.Error(damaged, err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Build)
	}
	slices.Sort(left)
	if got := strings.Join(left, " "); got != "24022510 24280767 8169922" {
		t.Errorf("ISOs left: %s", got)
	}
}
