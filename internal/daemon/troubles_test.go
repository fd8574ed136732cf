package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/publish/maas"
)

// moodyTarget is a target whose check fails as it is told to.
type moodyTarget struct {
	fakeTarget
	mu     sync.Mutex
	err    error
	checks int
}

func (m *moodyTarget) Check(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checks++
	return m.err
}

func (m *moodyTarget) set(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// A target that cannot be used is known before the first image is ready, is said
// once, and again when it works; images that waited for it are published at once.
func TestTargetUnreachable(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	target := &moodyTarget{err: fault.New(fault.Unavailable, "nobody answers: check url")}
	r.inUse.Store(&settings{r.cfg, []publish.Publisher{target}})
	r.run()
	if got := m.until("Target t: nobody answers: check url"); !strings.Contains(got, "STATUS=Target t") {
		t.Errorf("the status does not begin with it: %q", got)
	}
	later := func() {
		r.mu.Lock()
		r.targets["t"].due = time.Now() // half a minute later
		r.mu.Unlock()
		wake(r.publishWake)
	}
	later()
	r.until("checked again", func(map[string]*build.Build) bool { return r.targets["t"].failures >= 2 })
	if n := r.logs.count(journal.TargetUnreachable, "nobody answers"); n != 1 {
		t.Errorf("said %d times", n)
	}
	target.set(nil)
	m.drain()
	later()
	if got := m.until("STATUS="); strings.Contains(got, "nobody answers") {
		t.Errorf("the status still is %q", got)
	}
	r.until("said", func(map[string]*build.Build) bool {
		return r.logs.count(journal.TargetRecovered, "Target t works again") == 1
	})
	target.mu.Lock()
	checks := target.checks
	target.mu.Unlock()
	wake(r.publishWake)
	if m.pings(); checks != 3 {
		t.Errorf("checked %d times", checks)
	}
}

// A publication says as much about a target as a check.
func TestPublicationShowsTheTarget(t *testing.T) {
	r := newRig(t, t.TempDir())
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	sum := r.addISO("8.0.3", "24280767")
	r.reconcile()
	b := r.builds[r.current[sum]]
	b.State, b.NotBefore = build.Built, time.Now().Add(time.Hour)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, step := range []struct {
		name string
		ctx  context.Context
		err  error
		want string
	}{
		{"a wrong key", t.Context(), fault.New(fault.NotPermitted, "the key is wrong"), "Target t: the key is wrong"},
		{"the image is not what was verified", t.Context(), fault.New(fault.Input, "edited"), "Target t: the key is wrong"},
		{"the service ends", ended, context.Canceled, "Target t: the key is wrong"},
		{"it works", t.Context(), nil, ""},
	} {
		o := observed{failingTarget{err: step.err}, r.noteTarget}
		if _, err := o.Publish(step.ctx, publish.Image{}, nil); !errors.Is(err, step.err) {
			t.Errorf("%s: err = %v", step.name, err)
		}
		if got := r.troubles["target t"]; got != step.want {
			t.Errorf("%s: the trouble is %q, want %q", step.name, got, step.want)
		}
	}
	if !b.NotBefore.IsZero() {
		t.Error("the image still waits")
	}
}

// Nothing is sent to a target that does not answer, so that it is told of at once.
func TestNothingIsSentToATargetThatIsNotThere(t *testing.T) {
	gone := fault.New(fault.Unavailable, "nobody answers")
	var noted error
	target := &moodyTarget{err: gone}
	o := observed{target, func(_ context.Context, _ string, err error) { noted = err }}
	if _, err := o.Publish(t.Context(), publish.Image{}, nil); !errors.Is(err, gone) || !errors.Is(noted, gone) {
		t.Errorf("err = %v, noted %v", err, noted)
	}
	// What else a check finds may be in the way, and may not: the upload shows it.
	target.set(fault.New(fault.Config, "the clock is wrong"))
	if _, err := o.Publish(t.Context(), publish.Image{}, nil); err == nil || errors.Is(err, gone) {
		t.Errorf("err = %v, want the fake target's own: it was sent", err)
	}
}

type failingTarget struct {
	fakeTarget
	err error
}

func (f failingTarget) Publish(context.Context, publish.Image, func(done, total int64)) (publish.Result, error) {
	return publish.Result{}, f.err
}

// Without a key the service runs, builds, keeps the image and says what to do.
func TestNoCredential(t *testing.T) {
	for _, empty := range []bool{false, true} {
		t.Run(fmt.Sprint("empty credential ", empty), func(t *testing.T) {
			m := newManager(t)
			dir := t.TempDir()
			t.Setenv("CREDENTIALS_DIRECTORY", dir)
			if empty { // as the unit's SetCredential= makes it
				if err := os.WriteFile(filepath.Join(dir, "maas-api-key"), []byte("\n"), 0o400); err != nil {
					t.Fatal(err)
				}
			}
			client, err := maas.New(config.Target{Type: config.TargetMAAS, Name: "prod", URL: "http://127.0.0.1:9/MAAS"})
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, t.TempDir())
			r.inUse.Store(&settings{r.cfg, []publish.Publisher{client}})
			r.f.sendErr = func(*build.Build) error { return client.Check(t.Context()) }
			r.addISO("8.0.3", "24280767")
			r.run()
			m.until("STATUS=Target prod: there is no API key: put it into /etc/esxid/maas.key")
			r.until("the image waits", func(b map[string]*build.Build) bool { return states(b)[build.Built] == 1 })
		})
	}
}

func TestDiskLow(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	free := int64(3 << 29)
	r.freeSpace = func(string) (int64, error) { return free, nil }
	r.addISO("8.0.3", "24280767")
	r.f.block = make(chan struct{})
	r.run()
	<-r.f.started
	m.until("STATUS=Disk space is low: 1.5 GiB are free for " + r.cfg.StateDir + " and a build may need 8 · Preparing esxi/8.0")
	r.checkSpace()
	if n := r.logs.count(journal.DiskLow, "Disk space is low: 1.5 GiB are free"); n != 1 {
		t.Errorf("said %d times", n)
	}
	free = 100 << 30
	r.checkSpace()
	if got := m.until("STATUS="); strings.Contains(got, "low") {
		t.Errorf("with space again the status is %q", got)
	}
	close(r.f.block)
}

// A full disk in the middle of a build: it waits, and its record is written when
// that can be done.
func TestRecordIsWrittenLater(t *testing.T) {
	r := newRig(t, t.TempDir())
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	sum := r.addISO("8.0.3", "24280767")
	r.reconcile()
	b := r.builds[r.current[sum]]
	b.State = build.Building
	dir := r.store.Dir(b.ID())
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	r.conclude(b, fmt.Errorf("pack: %w", syscall.ENOSPC), false)
	if b.State != build.Queued || b.NotBefore.IsZero() || !r.unsaved[b.ID()] {
		t.Errorf("state %s, not before %v, unsaved %v", b.State, b.NotBefore, r.unsaved)
	}
	r.lookAgain()
	if n := r.logs.count("", "record cannot be saved"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	r.lookAgain()
	if saved, err := r.store.Load(b.ID()); err != nil || saved.Attempts != 1 || len(r.unsaved) > 0 {
		t.Errorf("saved %+v, %v, unsaved %v", saved, err, r.unsaved)
	}
}

// A damaged record costs its build, and nothing else, and only until somebody has
// seen to it.
func TestDamagedRecordIsLeftAlone(t *testing.T) {
	tests := []struct {
		name   string
		damage func(record string) error
		mend   func(record string, good []byte) error
		made   int // builds after it was mended
	}{
		{"cut, then removed", func(p string) error { return os.Truncate(p, 100) },
			func(p string, _ []byte) error { return os.RemoveAll(filepath.Dir(p)) }, 1},
		{"missing, then removed", os.Remove,
			func(p string, _ []byte) error { return os.RemoveAll(filepath.Dir(p)) }, 1},
		{"not JSON, then put back", func(p string) error { return os.WriteFile(p, []byte("hello"), 0o600) },
			func(p string, good []byte) error { return os.WriteFile(p, good, 0o600) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, dir)
			sum := r.addISO("8.0.3", "24280767")
			stop := r.run()
			r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
			stop()
			id := r.current[sum]
			record := filepath.Join(r.store.Dir(id), "build.json")
			good, err := os.ReadFile(record)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.damage(record); err != nil {
				t.Fatal(err)
			}
			damaged, _ := os.ReadFile(record)

			m := newManager(t)
			again := newRig(t, dir)
			again.configFile()("")
			again.load = func() (*config.Config, error) { return again.cfg, nil }
			again.addISO("6.7.0", "8169922")
			again.run()
			again.until("the other is done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
			if got := m.until("1 published"); !strings.Contains(got, "STATUS="+record+" is ") || !strings.Contains(got, "remove its directory to build anew") {
				t.Errorf("the status is %q", got)
			}
			if again.logs.count(journal.RecordDamaged, record) != 1 {
				t.Error("it is not said, or more than once")
			}
			if now, _ := os.ReadFile(record); string(now) != string(damaged) {
				t.Error("the record was touched")
			}
			if err := tt.mend(record, good); err != nil {
				t.Fatal(err)
			}
			again.Rescan()
			again.until("both done", func(b map[string]*build.Build) bool {
				return states(b)[build.Done] == 2 && again.troubles[troubleRecords] == ""
			})
			again.f.mu.Lock()
			defer again.f.mu.Unlock()
			if got := len(again.f.made) - 1; got != tt.made {
				t.Errorf("made %v", again.f.made)
			}
		})
	}
}

// Of one build number the ISO dropped last counts, whatever the clock says.
func TestISODroppedWithTheClockSetBack(t *testing.T) {
	r := prepared(t)
	tomorrow := time.Now().UTC().AddDate(0, 0, 1).Truncate(time.Second)
	r.added["x"] = tomorrow
	if got := r.addedNow(); !got.After(tomorrow) {
		t.Errorf("added %v, not after %v", got, tomorrow)
	}
}

// The clock goes on by years while a build waits: it is due; and the status does
// not show nonsense.
func TestClockSetForward(t *testing.T) {
	r := prepared(t)
	sum := r.addISO("8.0.3", "24280767")
	r.reconcile()
	b := r.builds[r.current[sum]]
	b.NotBefore = time.Now().AddDate(-4, 0, 0)
	got, _ := r.next(func(*build.Build) bool { return true })
	if got != b {
		t.Fatal("the build is not due")
	}
	r.observe(build.Event{Time: time.Now(), Build: b.ID(), Step: build.StepPack, State: build.EventStarted, Percent: -1})
	r.observe(build.Event{Time: time.Now().AddDate(-4, 0, 0), Build: b.ID(), Step: build.StepPack, State: build.EventRunning, Percent: 50, Done: 1, Total: 2})
	if got := r.compose(); got != "Building esxi/8.0 (24280767): pack 50 %" {
		t.Errorf("status %q", got)
	}
}

// The reason of a plan that cannot be made is in the status, said once.
func TestCannotPlan(t *testing.T) {
	r := prepared(t)
	r.cfg.RootPassword.File = "/nonexistent/password"
	r.addISO("8.0.3", "24280767")
	r.reconcile()
	r.reconcile()
	if got := r.compose(); !strings.Contains(got, "Not all is built: cannot plan the build of x.iso (8.0.3, build 24280767): root_password.file: cannot open /nonexistent/password") {
		t.Errorf("status %q", got)
	}
	if n := r.logs.count("", "Not all can be built now"); n != 1 {
		t.Errorf("said %d times", n)
	}
	r.cfg.RootPassword.File = ""
	r.lookAgain()
	if got := r.compose(); got != "Waiting for ISOs · 1 queued" {
		t.Errorf("mended, the status is %q", got)
	}
}

// The rejected file is in the status until somebody has taken it away.
func TestRejectedIsInTheStatus(t *testing.T) {
	r := prepared(t)
	path := filepath.Join(r.incoming(), "windows.iso")
	if err := os.WriteFile(path, []byte("MZ"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.reject(t.Context(), path, "it is not an ISO 9660 image")
	if got := r.compose(); !strings.Contains(got, "Rejected windows.iso, see the .reason file in "+r.rejected()) {
		t.Errorf("status %q", got)
	}
	if r.logs.count(journal.Rejected, "Rejected "+path+": it is not an ISO 9660 image. It was moved to "+r.rejected()) != 1 {
		t.Error("it is not said")
	}
	if err := os.Remove(filepath.Join(r.rejected(), "windows.iso")); err != nil {
		t.Fatal(err)
	}
	if got := r.compose(); got != "Waiting for ISOs" {
		t.Errorf("status %q", got)
	}
}

// A directory that goes away is said once, and is in the status until it is back.
func TestDirectoryGoesAway(t *testing.T) {
	tests := []struct {
		name string
		dir  func(r *rig) string
	}{
		{"incoming", func(r *rig) string { return r.incoming() }},
		{"overrides", func(r *rig) string { return r.cfg.KickstartDir }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t)
			r := newRig(t, t.TempDir())
			r.run()
			m.until("READY=1")
			dir := tt.dir(r)
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			m.until("STATUS=Not watching " + dir + ": ")
			if err := os.Rename(dir+".away", dir); err != nil {
				t.Fatal(err)
			}
			if got := m.until("STATUS="); strings.Contains(got, "Not watching") {
				t.Errorf("back again, the status is %q", got)
			}
			if n := r.logs.count(journal.WatchTrouble, dir+" is not watched: "); n != 1 {
				t.Errorf("said %d times", n)
			}
			r.until("said", func(map[string]*build.Build) bool { return r.logs.count("", "Watching "+dir+" again.") == 1 })
		})
	}
}
