package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/build"
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
				r.again()
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
			b.Published = map[string]build.Publication{"t": {SHA256: b.Image.SHA256}}
		}
		r.save(b)
	}
	return r, sum
}
