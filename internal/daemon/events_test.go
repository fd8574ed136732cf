package daemon

import (
	"errors"
	"testing"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/vm"
)

// One line of the journal for each thing that happens to an image; the logbook looks
// at the fields.
func TestEventsOfABuild(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.addISO("8.0.3", "24280767")
	stop := r.run()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	stop()
	for id, text := range map[journal.MessageID]string{
		journal.Queued:    "Queued esxi/8.0, build 24280767, with default.cfg",
		journal.Started:   "Building esxi/8.0, build 24280767.",
		journal.Built:     "Built esxi/8.0: the image is in " + r.cfg.StateDir + "/images/esxi-8.0-24280767.",
		journal.Published: "Published esxi/8.0: ",
	} {
		if n := r.logs.count(id, text); n != 1 {
			t.Errorf("%q was said %d times", text, n)
		}
	}
}

func TestEventsOfAFailure(t *testing.T) {
	tests := []struct {
		name string
		err  error
		id   journal.MessageID
		want string
	}{
		{"kickstart", &build.StepError{Step: build.StepKickstart, Err: fault.New(fault.Input, "8.0.cfg:3: error: no such option")},
			journal.KickstartRefused, "The kickstart for esxi/8.0 has errors: kickstart failed: 8.0.cfg:3: error: no such option."},
		{"installation", &build.StepError{Step: build.StepInstall, Err: &vm.InstallError{Phase: "booting", Cause: "nothing happened for 15m0s", Console: "/x/console.log"}},
			journal.BuildFailed, "The build of esxi/8.0 failed: install failed: cannot install ESXi: nothing happened for 15m0s (phase: booting); see /x/console.log."},
		{"several", &build.StepError{Step: build.StepVerify, Err: fault.As(fault.Input, errors.Join(errors.New("one"), errors.New("two")))},
			journal.BuildFailed, "one; two."},
		{"full disk", fault.New(fault.CannotWrite, "no space left on device: free some space"),
			journal.TriedAgain, "esxi/8.0 cannot be built now and is tried again in 30s: no space left on device: free some space."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := prepared(t)
			sum := r.addISO("8.0.3", "24280767")
			r.reconcile()
			b := r.builds[r.current[sum]]
			b.State = build.Building
			r.conclude(b, tt.err, false)
			if n := r.logs.count(tt.id, tt.want); n != 1 {
				t.Errorf("%q was said %d times", tt.want, n)
			}
		})
	}
}

func TestEventOfAnISO(t *testing.T) {
	r := prepared(t)
	sum := r.addISO("8.0.3", "24280767")
	second := iso.Info{SHA256: sum, Product: "VMware ESXi", Version: "8.0.3", Build: "24280767"}
	if err := r.accept(t.Context(), second, t.TempDir(), "x.iso"); err != nil {
		t.Fatal(err)
	}
	if n := r.logs.count(journal.Accepted, "Accepted x.iso: VMware ESXi 8.0.3, build 24280767."); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}
