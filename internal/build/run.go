package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/units"
)

// Runner runs the steps of builds. Its fields are not changed while it runs.
type Runner struct {
	Config  *config.Config
	Store   *Store
	Version string // of esxid, for the manifest
	// ResolveAccel says how the virtual machine can run: kvm or tcg. It is asked
	// before each installation.
	ResolveAccel func(context.Context) (string, error)
	Targets      []publish.Publisher
	// RunUnit, if set, runs a unit: the steps install and customize run in one each
	// (see Job), for which this process lacks the rights. It is units.Manager.Run.
	RunUnit func(ctx context.Context, unit string, o units.RunOptions) (units.Exit, error)
	Report  func(Event) // may be nil; called from one goroutine at a time
}

// StepError is a step that failed.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s failed: %v", e.Step, e.Err) }
func (e *StepError) Unwrap() error { return e.Err }

// step is one running step.
type step struct {
	*Runner
	build    *Build
	dir      string // the build's directory
	progress func(done, total int64)
	event    func(Event) // fills in who and what
	seconds  float64     // how long it took, if another process measured that
}

// warn reports what an operator should know although the step goes on.
func (s *step) warn(text string) {
	s.event(Event{State: EventWarning, Percent: -1, Message: text})
}

// A step function leaves its outputs in the build's directory and returns a
// note for the record. It may be run again after it was killed anywhere.
var stepFuncs = map[string]func(*step, context.Context) (note string, err error){
	StepKickstart: (*step).kickstart,
	StepInstall:   func(s *step, ctx context.Context) (string, error) { return s.handOver(ctx, StepInstall) },
	StepCustomize: func(s *step, ctx context.Context) (string, error) { return s.handOver(ctx, StepCustomize) },
	StepPack:      (*step).pack,
	StepVerify:    (*step).verify,
	StepPublish:   (*step).publish,
}

// Make runs the steps that lead to a verified image, leaving out finished ones.
func (r *Runner) Make(ctx context.Context, b *Build) error {
	for _, name := range Steps[:len(Steps)-1] {
		if b.done(name) && r.outputsThere(b, name) {
			r.report(b, Event{Step: name, State: EventSkipped, Percent: 100, Message: "already done"})
			continue
		}
		b.forget(name)
		if err := r.run(ctx, b, name); err != nil {
			return err
		}
	}
	return nil
}

// Publish brings the image to every target that does not have it.
func (r *Runner) Publish(ctx context.Context, b *Build) error {
	return r.run(ctx, b, StepPublish)
}

func (r *Runner) run(ctx context.Context, b *Build, name string) error {
	if err := ctx.Err(); err != nil {
		// A unit that an earlier esxid started is stopped also if it was not followed yet.
		if errors.Is(context.Cause(ctx), units.ErrStop) {
			err = errors.Join(err, r.stopJob(ctx, b))
		}
		return &StepError{name, err}
	}
	s := &step{Runner: r, build: b, dir: r.Store.Dir(b.ID())}
	s.event = func(e Event) {
		e.Step = name
		r.report(b, e)
	}
	s.progress = func(done, total int64) {
		percent := -1.0
		if total > 0 {
			percent = min(100, 100*float64(done)/float64(total))
		}
		s.event(Event{State: EventRunning, Percent: percent, Done: done, Total: total})
	}
	s.event(Event{State: EventStarted, Percent: -1})
	start := time.Now()
	note, err := stepFuncs[name](s, ctx)
	seconds := cmp.Or(s.seconds, time.Since(start).Seconds())
	if err == nil {
		b.Steps[name] = StepRecord{Finished: time.Now().UTC().Truncate(time.Second), Seconds: float64(int(seconds*1000)) / 1000, Note: note}
		err = r.Store.Save(b)
	}
	if err != nil {
		err = fullDisk(err)
		s.event(Event{State: EventFailed, Percent: -1, Seconds: seconds, Message: err.Error()})
		return &StepError{name, err}
	}
	s.event(Event{State: EventDone, Percent: 100, Seconds: seconds, Message: note})
	return nil
}

// fullDisk adds to the operating system's words about a full disk what to do. An
// error that has a class says it already.
func fullDisk(err error) error {
	var classed *fault.Error
	if errors.As(err, &classed) || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	return fault.New(fault.CannotWrite, "%w: free some space", err)
}

func (r *Runner) report(b *Build, e Event) {
	if r.Report == nil {
		return
	}
	e.Time, e.Build, e.Name = time.Now(), b.ID(), b.Plan.Name
	r.Report(e)
}

// Files in a build's directory.
const (
	diskName    = "disk.raw"    // the installed disk, sparse
	imageName   = "image.dd.gz" // the packed image
	espName     = "esp.orig"    // partition 1 as the installer left it
	ksName      = "ks.cfg"      // the kickstart the installer gets
	consoleName = "console.log" // the installer's log
	screenName  = "screen.png"  // the last screen of a failed installation
)

// outputs are the files a finished step must have left for the next ones.
var outputs = map[string]string{
	StepKickstart: ksName,
	StepInstall:   diskName,
	StepCustomize: diskName,
	StepPack:      imageName,
}

// outputsThere says whether what a finished step left is still there. A later
// finished step makes an output dispensable.
func (r *Runner) outputsThere(b *Build, name string) bool {
	if name == StepVerify {
		// A build of the same ISO with another kickstart may have the place now.
		m, err := ReadManifest(filepath.Join(r.Store.ImageDir(b.Plan), ImageName(b.Plan)))
		return err == nil && m.Build == b.ID()
	}
	if b.done(StepVerify) && r.outputsThere(b, StepVerify) {
		return true
	}
	_, err := os.Stat(filepath.Join(r.Store.Dir(b.ID()), outputs[name]))
	return err == nil
}

// Interrupted says whether err is the end of the context, not a failure.
func Interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}
