package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/publish"
)

// What cannot be read is not gone: no other ISO gets the name, nothing is
// removed, and all is well again once it can be read.
func TestTroubleRemovesNothing(t *testing.T) {
	tests := []struct {
		name        string
		begin, mend func(r *rig, sum string) error
	}{
		{
			name:  "overrides moved away",
			begin: func(r *rig, _ string) error { return os.Rename(r.cfg.KickstartDir, r.cfg.KickstartDir+".old") },
			mend:  func(r *rig, _ string) error { return os.Rename(r.cfg.KickstartDir+".old", r.cfg.KickstartDir) },
		}, {
			name: "an override that cannot be used",
			begin: func(r *rig, _ string) error {
				return os.Symlink("/nonexistent", filepath.Join(r.cfg.KickstartDir, "8.0.3.cfg"))
			},
			mend: func(r *rig, _ string) error { return os.Remove(filepath.Join(r.cfg.KickstartDir, "8.0.3.cfg")) },
		}, {
			name: "a damaged record of an ISO",
			begin: func(r *rig, sum string) error {
				if err := os.Rename(r.library.recordPath(sum), r.library.dir+"/x"); err != nil {
					return err
				}
				return os.WriteFile(r.library.recordPath(sum), []byte("{"), 0o600)
			},
			mend: func(r *rig, sum string) error { return os.Rename(r.library.dir+"/x", r.library.recordPath(sum)) },
		}, {
			name:  "no ISO directory",
			begin: func(r *rig, _ string) error { return os.Rename(r.library.dir, r.library.dir+".old") },
			mend:  func(r *rig, _ string) error { return os.Rename(r.library.dir+".old", r.library.dir) },
		},
	}
	for _, tt := range tests {
		for _, restart := range []bool{false, true} {
			name := tt.name
			if restart {
				name += ", over a restart"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				r, sum := twoOfOneName(t, dir)
				if restart {
					next := newRig(t, dir)
					next.library, next.store, next.secret = r.library, r.store, r.secret
					if err := next.recover(t.Context()); err != nil {
						t.Fatal(err)
					}
					r = next
				}
				if err := tt.begin(r, sum); err != nil {
					t.Fatal(err)
				}
				r.reconcile()
				check := func(when string) {
					t.Helper()
					if len(r.builds) != 3 {
						t.Errorf("%s: %d builds, want 3", when, len(r.builds))
					}
					if b := r.owner("esxi/8.0"); b == nil || b.Plan.ISO.Build != "24280767" {
						t.Errorf("%s: the name belongs to %+v", when, b)
					}
				}
				check("in trouble")
				if !r.incomplete {
					t.Error("it would not be tried again")
				}
				if err := tt.mend(r, sum); err != nil {
					t.Fatal(err)
				}
				r.lookAgain()
				check("after it")
				if r.incomplete {
					t.Error("it would be tried again for ever")
				}
			})
		}
	}
}

// twoOfOneName is a daemon, whose loops do not run, with an ISO that has been
// built and published, an older one of the same name that has been built, and
// a queued build of another. It returns the sum of the first.
func twoOfOneName(t *testing.T, dir string) (*rig, string) {
	t.Helper()
	r := newRig(t, dir)
	sum := r.addISO("8.0.3", "24280767")
	older := r.addISO("8.0.2", "22380479")
	r.addISO("6.7.0", "8169922")
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	r.reconcile()
	for _, of := range []string{older, sum} {
		b := r.builds[r.current[of]]
		b.State, b.Image = build.Built, &build.ImageRecord{SHA256: "sum-" + b.ID()}
		if of == sum {
			b.State, b.Changed = build.Done, time.Now()
			b.Published = map[string]build.Publication{"t": {Address: "here", SHA256: b.Image.SHA256}}
		}
		if err := placeImage(r.store, b); err != nil {
			t.Fatal(err)
		}
		r.save(b)
	}
	return r, sum
}

// An override that is taken back gives back the image that was there before,
// although another one took its place.
func TestOverrideTakenBack(t *testing.T) {
	r := newRig(t, t.TempDir())
	sum := r.addISO("8.0.3", "24280767")
	r.run()
	published := func(n int) {
		t.Helper()
		r.until(fmt.Sprintf("%d published", n), func(b map[string]*build.Build) bool {
			r.f.mu.Lock()
			defer r.f.mu.Unlock()
			return len(r.f.sent) == n && b[r.current[sum]].State == build.Done
		})
	}
	published(1)
	override := filepath.Join(r.cfg.KickstartDir, "8.0.cfg")
	r.override("8.0.cfg", "vmaccepteula\n")
	published(2)
	if err := os.Remove(override); err != nil {
		t.Fatal(err)
	}
	published(3)
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.builds[r.current[sum]]; !r.store.HasImage(b) || len(b.Plan.Kickstart) != 1 || b.Plan.Kickstart[0] == override {
		t.Errorf("the image is not that of %+v", b.Plan)
	}
}

// OEM vendors release several ISOs of one ESXi build.
func TestEqualBuildNumbers(t *testing.T) {
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		r := newRig(t, t.TempDir())
		for i, n := range order {
			r.addEntry(entry{
				Info:  iso.Info{Path: "x.iso", Size: 3, SHA256: strings.Repeat(n, 64), Version: "8.0.3", Build: "24280767"},
				Added: time.Unix(int64(i), 0),
			})
		}
		unlock, err := r.prepare()
		if err != nil {
			t.Fatal(err)
		}
		r.reconcile()
		if b := r.owner("esxi/8.0"); b.Plan.ISO.SHA256 != strings.Repeat(order[1], 64) {
			t.Errorf("dropped %v: the name belongs to %.1s", order, b.Plan.ISO.SHA256)
		}
		unlock()
	}
}

// A failed rebuild does not put the image of an older ISO in the place of the
// one that is published.
func TestFailureDoesNotGoBack(t *testing.T) {
	r, _ := twoOfOneName(t, t.TempDir())
	r.override("8.0.3.cfg", "vmaccepteula\n")
	r.reconcile()
	rebuilt := r.owner("esxi/8.0")
	rebuilt.State = build.Failed
	if b := r.owner("esxi/8.0"); b != rebuilt {
		t.Errorf("the name belongs to %s", b.ID())
	}
}

// A target that was pointed at another MAAS does not have what the old one has.
func TestAnotherAddressIsPublishedTo(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	r.addISO("6.7.0", "8169922")
	stop := r.run()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	stop()
	moved := newRig(t, dir)
	moved.inUse.Store(&settings{moved.cfg, []publish.Publisher{fakeTarget{"there"}}})
	moved.f.address = "there"
	moved.run()
	moved.until("published there", func(map[string]*build.Build) bool {
		moved.f.mu.Lock()
		defer moved.f.mu.Unlock()
		return len(moved.f.sent) > 0
	})
	if len(moved.f.made) != 0 {
		t.Errorf("made again: %v", moved.f.made)
	}
}

// An image that is not what was verified is made anew when its ISO is dropped.
func TestSpoiledImageIsMadeAnew(t *testing.T) {
	r := newRig(t, t.TempDir())
	sum := r.addISO("6.7.0", "8169922")
	r.f.sendErr = func(*build.Build) error { return fault.New(fault.Input, "the image was changed") }
	r.run()
	r.until("failed", func(b map[string]*build.Build) bool { return states(b)[build.Failed] == 1 })
	r.mu.Lock()
	b := r.builds[r.current[sum]]
	_, verified := b.Steps[build.StepVerify]
	r.mu.Unlock()
	if verified || b.Image != nil {
		t.Error("the spoiled image still counts as verified")
	}
}

// The record of a build that is being published belongs to its worker, who writes
// down each target: only the copy may be read meanwhile.
func TestPublishedOfARunningBuild(t *testing.T) {
	r := newRig(t, t.TempDir())
	b := &build.Build{Plan: build.Plan{ID: "8.0.3-1-00000000"}, State: build.Built}
	b.Plan.ISO.SHA256 = "sum"
	r.builds[b.ID()] = b
	r.live[b.ID()] = r.newLive(b)
	b.Published = map[string]build.Publication{"t": {}}
	if r.published("sum") {
		t.Error("the worker's record was read")
	}
	delete(r.live, b.ID())
	if !r.published("sum") {
		t.Error("it is not published although its worker has given it back")
	}
}
