package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/units"
	"github.com/esxid/esxid/internal/vm"
)

// buildLoop makes queued builds, one at a time: an installer takes all the
// memory and cores a small build server has.
func (d *Daemon) buildLoop(ctx context.Context) {
	d.clearUnits(ctx)
	d.loop(ctx, d.buildLife, d.buildWake, func(b *build.Build) bool {
		return b.State == build.Queued
	}, func(ctx context.Context, b *build.Build) error {
		d.checkSpace()
		return d.runner().Make(ctx, b)
	}, func(context.Context) time.Time { return time.Time{} })
}

// publishLoop publishes built images. It is apart from buildLoop, so that a MAAS
// that is down does not hold up builds. With nothing to publish it looks after the
// targets.
func (d *Daemon) publishLoop(ctx context.Context) {
	d.loop(ctx, d.publishLife, d.publishWake, func(b *build.Build) bool {
		return b.State == build.Built && d.owns(b)
	}, func(ctx context.Context, b *build.Build) error { return d.runner().Publish(ctx, b) }, d.checkTargets)
}

// loop hands builds that are due to work, one after the other, and sleeps until
// it is woken or the next one is due. Before it sleeps it calls spare, which says
// when it wants to be called again.
func (d *Daemon) loop(ctx context.Context, l *life, woken <-chan struct{}, ready func(*build.Build) bool,
	work func(context.Context, *build.Build) error, spare func(context.Context) time.Time,
) {
	for ctx.Err() == nil {
		l.here()
		b, due := d.next(ready)
		if b == nil {
			if again := spare(ctx); due.IsZero() || !again.IsZero() && again.Before(due) {
				due = again
			}
			wait(ctx, l, woken, due)
			continue
		}
		d.work(ctx, b, work)
		// Packing took what an idle service must not keep; Go would give it back to
		// the system bit by bit, for minutes. What is in a sync.Pool outlives one
		// collection.
		runtime.GC()
		debug.FreeOSMemory()
		l.here()
		d.reconcile()
	}
}

// wait returns when woken, at the time due (if it is not zero), or when ctx ends.
// The pause is measured on the monotonic clock: a clock that is set meanwhile does
// not make it longer.
func wait(ctx context.Context, l *life, woken <-chan struct{}, due time.Time) {
	var timer <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		timer = t.C
	}
	for {
		l.here()
		select {
		case <-ctx.Done():
		case <-woken:
		case <-timer:
		case <-l.asked:
			continue
		}
		return
	}
}

// next takes the oldest build that is ready and due: from now on its record
// belongs to the caller. If there is none it says when the next one will be due.
func (d *Daemon) next(ready func(*build.Build) bool) (b *build.Build, due time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	waiting := d.sorted(func(b *build.Build) bool { return d.isCurrent(b) && !d.isRunning(b) && ready(b) })
	// One whose unit runs on without us comes first: a second one beside it would be
	// too much.
	if i := slices.IndexFunc(waiting, func(b *build.Build) bool { return b.Job != nil }); i > 0 {
		waiting[0], waiting[i] = waiting[i], waiting[0]
	}
	for _, b := range waiting {
		// The clock may have been wrong when the time was noted.
		if !b.NotBefore.After(now) || b.NotBefore.Sub(now) > lastRetry {
			d.running[b.ID()], d.live[b.ID()] = func() {}, d.newLive(b)
			return b, time.Time{}
		}
		if due.IsZero() || b.NotBefore.Before(due) {
			due = b.NotBefore
		}
	}
	return nil, due
}

// work does one piece of work on a taken build, gives the build back and puts
// down how it went, in one go.
func (d *Daemon) work(ctx context.Context, b *build.Build, work func(context.Context, *build.Build) error) {
	jobCtx, end := context.WithCancelCause(ctx)
	defer end(nil)
	// What was started in a unit is stopped with the build, and not with the service.
	cancel := func() { end(units.ErrStop) }
	d.mu.Lock()
	l := d.live[b.ID()]
	d.running[b.ID()] = cancel
	if !d.isCurrent(b) || l.by != "" { // no longer, or cancelled, since it was taken
		cancel()
	}
	if b.State == build.Queued {
		d.transition(b, build.Building)
		l.underWay = d.underWay[b.ID()]
		delete(d.underWay, b.ID())
		if l.underWay == "" {
			d.log.Info(fmt.Sprintf("Building %s, build %s.", b.Plan.Name, b.Plan.ISO.Build), journal.Started.Attr(), "build", b.ID(), "name", b.Plan.Name)
		}
	}
	l.record = b.Clone()
	d.announce()
	d.mu.Unlock()

	err := work(jobCtx, b)

	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, b.ID())
	delete(d.live, b.ID())
	if err != nil && l.by != "" {
		d.cancelled(b, l.by)
	} else {
		d.conclude(b, err, jobCtx.Err() != nil)
	}
	close(l.done)
	d.refresh()
	d.announce()
}

// conclude moves a build on after its work.
func (d *Daemon) conclude(b *build.Build, err error, stopped bool) {
	building := b.State == build.Building
	switch {
	case err == nil && building:
		b.Error = nil
		d.transition(b, build.Built)
		image := d.store.ImageDir(b.Plan)
		d.log.Info(fmt.Sprintf("Built %s: the image is in %s.", b.Plan.Name, image), journal.Built.Attr(), "build", b.ID(), "name", b.Plan.Name, "image", image)
	case err == nil:
		b.Error = nil
		d.transition(b, build.Done)
		d.disown(b)
		if len(b.Published) == 0 {
			break // there is no target, which the status says
		}
		result := b.Steps[build.StepPublish].Note
		d.log.Info(fmt.Sprintf("Published %s: %s.", b.Plan.Name, result), journal.Published.Attr(), "build", b.ID(), "name", b.Plan.Name, "result", result)
	case stopped && building:
		// By a shutdown, or because nothing asks for the build now: no failure.
		d.transition(b, build.Queued)
	case stopped:
	case building && fault.Passes(err):
		d.later(b, build.Queued, err)
	case !building && fault.ClassOf(err) != fault.Input:
		// Whatever it is (a key, a full disk, a MAAS that is down): the image is
		// good, and the next try costs little.
		d.later(b, build.Built, err)
	default:
		if !building {
			b.Discard() // the image is not what was verified: dropping the ISO again makes it anew
		}
		b.Error = record(err)
		d.transition(b, build.Failed)
		d.logFailure(b, err)
	}
}

// logFailure tells of a build that needs the operator.
func (d *Daemon) logFailure(b *build.Build, err error) {
	about := []any{"build", b.ID(), "name", b.Plan.Name, "step", b.Error.Step, "error", err, "directory", d.store.Dir(b.ID())}
	if b.Error.Step == build.StepKickstart && fault.ClassOf(err) == fault.Input {
		d.log.Error(fmt.Sprintf("The kickstart for %s has errors: %s.", b.Plan.Name, clause(err)), append(about, journal.KickstartRefused.Attr())...)
		return
	}
	var installation *vm.InstallError
	if errors.As(err, &installation) {
		about = append(about, "phase", installation.Phase)
	}
	d.log.Error(fmt.Sprintf("The build of %s failed: %s.", b.Plan.Name, clause(err)), append(about, journal.BuildFailed.Attr())...)
}

func (d *Daemon) stepRunner() runner {
	s := d.settings()
	r := &build.Runner{Config: s.cfg, Store: d.store, Version: d.version, ResolveAccel: d.resolveAccel, Targets: d.observed(s.targets), Report: d.report}
	if d.units != nil {
		r.RunUnit = d.runUnit
	}
	return r
}

// disown forgets that other builds of the same name are published: the targets
// have this one now, and would have to get another one again.
func (d *Daemon) disown(b *build.Build) {
	for _, other := range d.builds {
		if other != b && other.Plan.Name == b.Plan.Name && !d.isRunning(other) && len(other.Published) > 0 {
			other.Published = nil
			d.save(other)
		}
	}
}

// Bounds of the time between two tries.
const (
	firstRetry = 30 * time.Second
	lastRetry  = 30 * time.Minute
)

// pause is how long to wait after a number of failures before this one.
func pause(failures int) time.Duration {
	if failures >= 6 { // 30 s << 6 is more than lastRetry
		return lastRetry
	}
	return firstRetry << failures
}

// later puts a build back for another try after a growing pause.
func (d *Daemon) later(b *build.Build, s build.State, err error) {
	pause := pause(b.Attempts)
	if toErr := b.To(s, time.Now()); toErr != nil {
		d.log.Error("Internal error: "+toErr.Error()+".", "error", toErr)
	}
	b.Attempts++
	b.NotBefore = time.Now().Add(pause).Truncate(time.Second)
	b.Error = record(err)
	d.save(b)
	verb := "built"
	if s == build.Built {
		verb = "published"
	}
	d.log.Warn(fmt.Sprintf("%s cannot be %s now and is tried again in %v: %s.", b.Plan.Name, verb, pause, clause(err)), journal.TriedAgain.Attr(),
		"build", b.ID(), "name", b.Plan.Name, "in", pause, "error", err)
}

func record(err error) *build.ErrorRecord {
	if err == nil {
		return nil
	}
	r := &build.ErrorRecord{Message: err.Error(), Class: fault.ClassOf(err), Time: time.Now().UTC().Truncate(time.Second)}
	var step *build.StepError
	if errors.As(err, &step) {
		r.Step = step.Step
	}
	return r
}

// resolveAccel finds out once how virtual machines can run here; a failure, and
// doing without KVM because of one, is not remembered, because the operator may
// mend it. Only buildLoop calls it.
func (d *Daemon) resolveAccel(ctx context.Context) (string, error) {
	cfg := d.settings().cfg.VM
	wanted := [2]string{cfg.QEMU, cfg.Accel}
	if d.accel != "" && d.accelFor == wanted {
		return d.accel, nil
	}
	accel, why, err := vm.Resolve(ctx, cfg.QEMU, cfg.Accel)
	if err != nil {
		return "", err
	}
	if why != "" {
		d.log.Warn(why + ".")
		return accel, nil
	}
	d.accel, d.accelFor = accel, wanted
	return accel, nil
}

// took is a time in seconds as people want to read it.
func took(seconds float64) time.Duration {
	d := time.Duration(seconds * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// report writes what a step did into the log; its progress goes to the service
// manager's status only.
func (d *Daemon) report(e build.Event) {
	if e.State == build.EventWarning {
		d.log.Warn(fmt.Sprintf("%s: %s: %s.", e.Name, e.Step, e.Message), "build", e.Build, "name", e.Name, "step", e.Step)
		return
	}
	l := d.buildLife
	if e.Step == build.StepPublish {
		l = d.publishLife
	}
	l.busy(silence(d.settings().cfg, e.Step))
	d.observe(e)
	switch e.State {
	case build.EventStarted:
		if !d.begins(e) {
			break
		}
		d.log.Info(fmt.Sprintf("%s: %s begins.", e.Name, e.Step), "build", e.Build, "name", e.Name, "step", e.Step)
	case build.EventDone:
		text := fmt.Sprintf("%s: %s done in %s", e.Name, e.Step, took(e.Seconds))
		if e.Message != "" {
			text += " (" + e.Message + ")"
		}
		d.log.Info(text+".", "build", e.Build, "name", e.Name, "step", e.Step, "seconds", int(e.Seconds), "note", e.Message)
	}
	d.status(e)
}
