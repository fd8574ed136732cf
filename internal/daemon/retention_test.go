package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
)

// A build that is not there yet, and may fail, is no reason to remove an image.
func TestRetentionKeepsImagesUntilThereAreNewer(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.cfg.Retention.ImagesPerName = 1
	r.addISO("8.0.2", "22380479")
	stop := r.run()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	stop()

	t.Run("override", func(t *testing.T) {
		r.f.makeErr = func(*build.Build) error { return fault.New(fault.Input, "bad override") }
		override := filepath.Join(r.cfg.KickstartDir, "8.0.cfg")
		if err := os.WriteFile(override, []byte("vmaccepteula\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		stop := r.run()
		r.until("a failed build", func(b map[string]*build.Build) bool { return states(b)[build.Failed] == 1 })
		stop()
		if n := states(r.builds); n[build.Done] != 1 {
			t.Errorf("builds: %v, want the published one too", n)
		}
		if err := os.Remove(override); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("newer ISO", func(t *testing.T) {
		r.f.makeErr = func(*build.Build) error { return errors.New("the installer failed") }
		r.addISO("8.0.3", "24280767")
		stop := r.run()
		r.until("another failed build", func(b map[string]*build.Build) bool { return states(b)[build.Failed] == 2 })
		stop()
		if n := states(r.builds); n[build.Done] != 1 {
			t.Errorf("builds: %v, want the published one too", n)
		}
		if entries, _, err := r.library.all(); err != nil || len(entries) != 2 {
			t.Errorf("ISOs: %v, %v", entries, err)
		}
	})
}

// What a target has stays until it has something else.
func TestRetentionKeepsWhatATargetHas(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.cfg.Retention.ImagesPerName = 1
	r.addISO("8.0.2", "22380479")
	stop := r.run()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	stop()
	r.f.sendErr = func(*build.Build) error { return fault.New(fault.Unavailable, "MAAS is down") }
	r.addISO("8.0.3", "24280767")
	stop = r.run()
	r.until("an error", func(builds map[string]*build.Build) bool {
		for _, b := range builds {
			if b.Error != nil {
				return true
			}
		}
		return false
	})
	stop()
	if n := states(r.builds); n[build.Done] != 1 || n[build.Built] != 1 {
		t.Errorf("builds: %v, want what MAAS has and what it is to get", n)
	}
}

// A slow disk keeps nobody waiting while images are removed; and what a service that is
// killed meanwhile leaves, the next one removes.
func TestRemovalHoldsUpNobody(t *testing.T) {
	r := prepared(t)
	r.cfg.Retention.ImagesPerName = 1
	r.addISO("8.0.2", "22380479")
	r.addISO("8.0.3", "24280767")
	r.reconcile()
	for _, b := range r.builds {
		b.State = build.Built
		r.check(placeImage(r.store, b))
	}
	dirs := []string{r.store.Builds, r.store.Images, r.library.dir}
	before, err := diskUsage(dirs...)
	r.check(err)
	var removed []string
	r.removeAll = func(path string) error {
		if r.mu.TryLock() {
			r.mu.Unlock()
		} else {
			t.Errorf("all have to wait for the removal of %s", path)
		}
		removed = append(removed, filepath.Dir(path))
		return errors.New("killed")
	}
	r.reconcile()
	slices.Sort(removed)
	if slices.Sort(dirs); !slices.Equal(removed, dirs) {
		t.Errorf("removed something in %q, want one each in %q", removed, dirs)
	}
	if after, err := diskUsage(dirs...); err != nil || after >= before {
		t.Errorf("%d bytes are used, and were %d before the removal, %v", after, before, err)
	}
	r.check(errors.Join(r.store.Clean(), unmove(r.library.dir)))
	for _, dir := range dirs {
		left, err := os.ReadDir(dir)
		r.check(err)
		for _, e := range left {
			if strings.HasPrefix(e.Name(), ".") {
				t.Errorf("%s is left in %s", e.Name(), dir)
			}
		}
	}
}
