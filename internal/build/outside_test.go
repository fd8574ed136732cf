package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/units"
	"github.com/esxid/esxid/internal/vm"
)

// outsideFixture is a build whose kickstart is done, and a runner with a unit that
// does what the test says.
type outsideFixture struct {
	t      *testing.T
	store  *Store
	build  *Build
	runner *Runner
	events []Event
	runs   []string // of units: "start NAME", "follow NAME", "stop NAME"
	// unit is what a unit does that is started or followed.
	unit func(o units.RunOptions) (units.Exit, error)
}

func newOutside(t *testing.T) *outsideFixture {
	t.Helper()
	f := &outsideFixture{t: t, store: testStore(t)}
	b, err := f.store.Create(testPlan(t, nil), testSource, "/isos/a.iso", now)
	if err != nil {
		t.Fatal(err)
	}
	f.build = b
	f.runner = &Runner{Config: config.Default(), Store: f.store, Report: func(e Event) { f.events = append(f.events, e) }}
	f.runner.RunUnit = func(ctx context.Context, unit string, o units.RunOptions) (units.Exit, error) {
		switch {
		case errors.Is(context.Cause(ctx), units.ErrStop):
			f.runs = append(f.runs, "stop "+unit)
			return units.Exit{}, units.ErrStop
		case o.FollowOnly:
			f.runs = append(f.runs, "follow "+unit)
		default:
			f.runs = append(f.runs, "start "+unit)
		}
		exit, err := f.unit(o)
		exit.Unit = unit
		return exit, err
	}
	return f
}

// saved is what the record on the disk says of the job.
func (f *outsideFixture) saved() *JobRecord {
	f.t.Helper()
	b, err := f.store.Load(f.build.ID())
	if err != nil {
		f.t.Fatal(err)
	}
	return b.Job
}

func (f *outsideFixture) directory() *directory {
	f.t.Helper()
	d, err := openShared(f.store.Builds, f.build.ID())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(d.close)
	return d
}

// take is a unit that takes its job, as RunJob does, and leaves a result.
func (f *outsideFixture) take(result *Result) {
	f.t.Helper()
	d := f.directory()
	j, err := d.takeJob(f.build.ID(), StepInstall)
	if err != nil {
		f.t.Fatal(err)
	}
	if f.saved() == nil || f.saved().Nonce != j.Nonce {
		f.t.Errorf("the record was not told before the unit was started: %+v", f.saved())
	}
	if result != nil {
		f.leave(j.Nonce, result)
	}
}

func (f *outsideFixture) leave(nonce string, r *Result) {
	f.t.Helper()
	r.Format, r.Nonce = jobFormat, nonce
	if err := f.directory().put(resultName, r); err != nil {
		f.t.Fatal(err)
	}
}

func (f *outsideFixture) run(ctx context.Context) error {
	return f.runner.run(ctx, f.build, StepInstall)
}

func (f *outsideFixture) wantRuns(want ...string) {
	f.t.Helper()
	for i, verb := range want {
		if !strings.Contains(verb, " ") {
			want[i] = verb + " " + units.Name(StepInstall, f.build.ID())
		}
	}
	if diff := cmp.Diff(want, f.runs); diff != "" {
		f.t.Errorf("units (-want +got):\n%s", diff)
	}
}

func TestOutside(t *testing.T) {
	f := newOutside(t)
	f.unit = func(o units.RunOptions) (units.Exit, error) {
		o.Status("62 %, 345 MiB written: installing: a line")
		f.take(&Result{Note: "accel tcg", Seconds: 1234.5678, Warnings: []string{"no KVM"}})
		return units.Exit{Result: "success"}, nil
	}
	if err := f.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantRuns("start")
	record := f.build.Steps[StepInstall]
	if record.Note != "accel tcg" || record.Seconds != 1234.567 || f.saved() != nil {
		t.Errorf("record %+v, job %+v", record, f.saved())
	}
	running := slices.IndexFunc(f.events, func(e Event) bool { return e.State == EventRunning })
	if e := f.events[running]; e.Percent != 62 || e.Done != 345<<20 || e.Message != "installing: a line" || e.Step != StepInstall {
		t.Errorf("progress %+v", e)
	}
	if !slices.ContainsFunc(f.events, func(e Event) bool { return e.State == EventWarning && e.Message == "no KVM" }) {
		t.Errorf("no warning among %+v", f.events)
	}
}

// warnings are the reported ones.
func (f *outsideFixture) warnings() (texts []string) {
	for _, e := range f.events {
		if e.State == EventWarning {
			texts = append(texts, e.Message)
		}
	}
	return texts
}

// A warning is reported as soon as the unit shows it, and never again, whatever the
// result says and though the service is started again meanwhile.
func TestOutsideWarns(t *testing.T) {
	f := newOutside(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.unit = func(o units.RunOptions) (units.Exit, error) {
		f.take(nil)
		o.Status("warning: no KVM")
		if diff := cmp.Diff([]string{"no KVM"}, f.warnings()); diff != "" {
			t.Errorf("at once (-want +got):\n%s", diff)
		}
		o.Status("1 %: installing: a line")
		cancel()
		return units.Exit{}, ctx.Err()
	}
	if err := f.run(ctx); !Interrupted(ctx, err) {
		t.Errorf("err = %v", err)
	}
	var err error
	if err = f.store.Save(f.build); err == nil {
		f.build, err = f.store.Load(f.build.ID())
	}
	if err != nil {
		t.Fatal(err)
	}
	f.unit = func(o units.RunOptions) (units.Exit, error) {
		o.Status("warning: no KVM")
		f.leave(f.build.Job.Nonce, &Result{Warnings: []string{"no KVM", "shown too briefly"}})
		return units.Exit{Result: "success"}, nil
	}
	if err := f.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"no KVM", "shown too briefly"}, f.warnings()); diff != "" {
		t.Errorf("in all (-want +got):\n%s", diff)
	}
}

// What the service finds when it starts again.
func TestOutsideGoesOn(t *testing.T) {
	const nonce = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	good := &Result{Note: "accel kvm"}
	tests := []struct {
		name  string
		taken bool
		unit  units.Exit
		// what there is of a result, and for which nonce
		result *Result
		nonce  string
		runs   []string
		class  fault.Class // 0: no error
		again  bool        // a new job was made
	}{
		{"not taken yet", false, units.Exit{Result: "success"}, good, nonce, []string{"start"}, 0, false},
		{"taken and done", true, units.Exit{Result: "success"}, good, nonce, []string{"follow"}, 0, false},
		{"done, and the host was restarted", true, units.Exit{}, good, nonce, []string{"follow"}, 0, false},
		{"killed", true, units.Exit{Result: "signal", Code: 9}, nil, "", []string{"follow"}, fault.TryLater, false},
		{"the host lost its power", true, units.Exit{}, nil, "", []string{"follow", "start"}, 0, true},
		{"the host was shut down", true, units.Exit{}, &Result{Stopped: true}, nonce, []string{"follow", "start"}, 0, true},
		{"stopped by hand", true, units.Exit{Result: "success"}, &Result{Stopped: true}, nonce, []string{"follow"}, fault.TryLater, false},
		{"only another run's result", true, units.Exit{}, good, strings.Repeat("X", 26), []string{"follow", "start"}, 0, true},
		{"failed", true, units.Exit{Result: "exit-code", Code: 65}, &Result{Failure: &Failure{Message: "bad ISO", Class: fault.Input}}, nonce, []string{"follow"}, fault.Input, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newOutside(t)
			f.build.Job = &JobRecord{Step: StepInstall, Nonce: nonce, Key: f.build.Plan.InstallKey}
			j := (&step{Runner: f.runner, build: f.build}).job(StepInstall)
			j.Nonce = nonce
			if err := errors.Join(f.store.Save(f.build), f.directory().put(jobName, &j)); err != nil {
				t.Fatal(err)
			}
			if tt.taken {
				f.take(nil)
			}
			if tt.result != nil {
				f.leave(tt.nonce, tt.result)
			}
			f.unit = func(units.RunOptions) (units.Exit, error) {
				if f.build.Job.Nonce != nonce { // the new job
					f.take(&Result{Note: "again"})
					return units.Exit{Result: "success"}, nil
				}
				return tt.unit, nil
			}
			err := f.run(t.Context())
			if fault.ClassOf(err) != tt.class {
				t.Errorf("class %d, want %d: %v", fault.ClassOf(err), tt.class, err)
			}
			f.wantRuns(tt.runs...)
			if f.build.Job != nil {
				t.Errorf("the job is still there: %+v", f.build.Job)
			}
			if again := f.build.Steps[StepInstall].Note == "again"; again != tt.again {
				t.Errorf("run again: %v", again)
			}
		})
	}
}

// It is not tried for ever in one go.
func TestOutsideThatVanishes(t *testing.T) {
	f := newOutside(t)
	f.build.Job = &JobRecord{Step: StepInstall, Nonce: strings.Repeat("A", 26), Key: f.build.Plan.InstallKey}
	f.unit = func(units.RunOptions) (units.Exit, error) { return units.Exit{}, nil }
	if err := f.run(t.Context()); fault.ClassOf(err) != fault.TryLater {
		t.Errorf("err = %v", err)
	}
	f.wantRuns("follow", "start")
}

// The service's end leaves the unit and the job; a stop ends both, unless the unit
// was not seen to end.
func TestOutsideIsCancelled(t *testing.T) {
	tests := []struct {
		name  string
		cause error
		ended bool
		kept  bool
	}{
		{"end of the service", nil, false, true},
		{"end of the service and of the unit", nil, true, true},
		{"stopped", units.ErrStop, true, false},
		{"stopped in vain", units.ErrStop, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newOutside(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			f.unit = func(units.RunOptions) (units.Exit, error) {
				f.take(nil)
				cancel(tt.cause)
				if tt.ended {
					return units.Exit{}, fmt.Errorf("%w: %w", units.ErrStop, ctx.Err())
				}
				return units.Exit{}, ctx.Err()
			}
			err := f.run(ctx)
			if !Interrupted(ctx, err) {
				t.Errorf("err = %v", err)
			}
			if kept := f.build.Job != nil; kept != tt.kept {
				t.Errorf("job %+v", f.build.Job)
			}
		})
	}
}

// Only a unit that certainly does not run is started anew: two would do the same.
func TestOutsideIsRefused(t *testing.T) {
	refused := fault.New(fault.Unavailable, "systemd does not let esxid do it")
	tests := []struct {
		name  string
		taken bool
		err   error
		kept  bool
	}{
		{"the start", false, units.NotStarted{Err: refused}, false},
		{"a second start, when the first has begun", true, units.NotStarted{Err: refused}, true},
		{"to be followed", true, refused, true},
		{"to be followed, soon after the start", false, refused, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newOutside(t)
			f.unit = func(units.RunOptions) (units.Exit, error) {
				if tt.taken {
					f.take(nil)
				}
				return units.Exit{}, tt.err
			}
			if err := f.run(t.Context()); !fault.Passes(err) {
				t.Errorf("err = %v", err)
			}
			if kept := f.build.Job != nil; kept != tt.kept {
				t.Fatalf("job %+v", f.build.Job)
			}
			f.unit = func(units.RunOptions) (units.Exit, error) {
				if !tt.taken {
					f.take(nil)
				}
				f.leave(f.build.Job.Nonce, &Result{})
				return units.Exit{Result: "success"}, nil
			}
			if err := f.run(t.Context()); err != nil {
				t.Error(err)
			}
			if tt.taken {
				f.wantRuns("start", "follow")
			} else {
				f.wantRuns("start", "start")
			}
		})
	}
}

// A build that is cancelled before anybody follows its unit does not leave that
// behind; the end of the service does.
func TestOutsideIsCancelledBeforeItIsFollowed(t *testing.T) {
	for _, cause := range []error{nil, units.ErrStop} {
		f := newOutside(t)
		f.build.Job = &JobRecord{Step: StepInstall, Nonce: "A", Key: f.build.Plan.InstallKey}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := f.run(ctx); !Interrupted(ctx, err) {
			t.Errorf("cause %v: err = %v", cause, err)
		}
		if cause == nil {
			f.wantRuns()
		} else {
			f.wantRuns("stop " + units.Name(StepInstall, f.build.ID()))
		}
		if kept := f.build.Job != nil; kept != (cause == nil) {
			t.Errorf("cause %v: job %+v", cause, f.build.Job)
		}
	}
}

// A unit for something else is stopped first: the inputs have changed.
func TestOutsideStopsAnotherJob(t *testing.T) {
	for _, old := range []JobRecord{
		{Step: StepInstall, Nonce: "A", Key: "other"},
		{Step: StepCustomize, Nonce: "A", Key: "other"},
	} {
		f := newOutside(t)
		f.build.Job = &old
		f.unit = func(units.RunOptions) (units.Exit, error) {
			f.take(&Result{})
			return units.Exit{Result: "success"}, nil
		}
		if err := f.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.wantRuns("stop "+units.Name(old.Step, f.build.ID()), "start")
	}
}

func TestOutsideFails(t *testing.T) {
	installer := &vm.InstallError{Phase: "installing", Cause: "it failed", Message: "No disk", Console: "/b/console.log"}
	tests := []struct {
		name   string
		exit   units.Exit
		result *Result
		class  fault.Class
		want   string
	}{
		{"the installer", units.Exit{Result: "exit-code", Code: 1}, &Result{Failure: failure(installer)}, fault.Failed, `it failed (phase: installing); the installer said: "No disk"; see /b/console.log`},
		{"stopped by an administrator", units.Exit{Result: "success"}, &Result{Stopped: true, Failure: failure(context.Canceled)}, fault.TryLater, "was stopped; to end the build for good: esxid cancel"},
		{"out of memory, noticed", units.Exit{Result: "oom-kill"}, &Result{Failure: failure(installer)}, fault.TryLater, "ran out of memory"},
		{"out of memory", units.Exit{Result: "oom-kill"}, nil, fault.TryLater, "ran out of memory"},
		{"no room for a result", units.Exit{Result: "exit-code", Code: 73, Status: "no space left"}, nil, fault.CannotWrite, "(it was at: no space left)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newOutside(t)
			f.unit = func(units.RunOptions) (units.Exit, error) {
				f.take(tt.result)
				return tt.exit, nil
			}
			err := f.run(t.Context())
			if fault.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("class %d: %v", fault.ClassOf(err), err)
			}
			var got *vm.InstallError
			if errors.As(err, &got) != (tt.name == "the installer") {
				t.Errorf("installer's error: %+v", got)
			} else if got != nil && got.Phase != "installing" {
				t.Errorf("installer's error: %+v", got)
			}
		})
	}
}

// The working files of a unit that may still run are left alone.
func TestCleanLeavesAUnitAlone(t *testing.T) {
	f := newOutside(t)
	work := filepath.Join(f.store.Dir(f.build.ID()), installDir)
	for _, running := range []bool{true, false} {
		f.build.Job = nil
		if running {
			f.build.Job = &JobRecord{Step: StepInstall}
		}
		if err := errors.Join(f.store.Save(f.build), os.MkdirAll(work, 0o700), f.store.Clean()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(work); (err == nil) != running {
			t.Errorf("with a job: %v; working files: %v", running, err)
		}
	}
}

func TestProgressLine(t *testing.T) {
	for line, want := range map[string]Event{
		"62 %, 345 MiB written: installing: a: b": {Percent: 62, Done: 345 << 20, Message: "installing: a: b"},
		"0 %: starting":         {Message: "starting"},
		"7 MiB written: post: ": {Percent: -1, Done: 7 << 20, Message: "post: "},
		"installing: 50 %: x":   {Percent: -1, Message: "installing: 50 %: x"},
		"":                      {Percent: -1},
	} {
		want.State = EventRunning
		got := parseProgress(line)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
		if back := formatProgress(got); back != line {
			t.Errorf("%q came back as %q", line, back)
		}
	}
	for _, odd := range []string{"999 %: x", "\xff", "1 %", "12345678901 MiB written: x"} {
		if e := parseProgress(odd); e.Percent > 100 || e.Done < 0 {
			t.Errorf("%q: %+v", odd, e)
		}
	}
}
