package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/publish/directory"
	"github.com/esxid/esxid/internal/publish/maas"
)

// Targets makes a publisher for every configured target.
func Targets(cfg *config.Config) ([]publish.Publisher, error) {
	var targets []publish.Publisher
	for _, t := range cfg.Targets {
		var p publish.Publisher
		var err error
		switch t.Type {
		case config.TargetMAAS:
			p, err = maas.New(t)
		case config.TargetDirectory:
			p, err = directory.New(t)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use target %s: %w", t.Name, err)
		}
		targets = append(targets, p)
	}
	return targets, nil
}

// health is what is known of a target since the configuration was read.
type health struct {
	failures int       // in a row
	due      time.Time // of the next check of one that fails
}

// observed is a target that tells how each publication went.
type observed struct {
	publish.Publisher
	note func(ctx context.Context, name string, err error)
}

// Publish begins with a check: the upload itself would try for minutes before it
// gives a target up that is not there, and nobody would be told meanwhile.
func (o observed) Publish(ctx context.Context, img publish.Image, progress func(done, total int64)) (publish.Result, error) {
	limited, cancel := context.WithTimeout(ctx, checkLimit)
	err := o.Check(limited)
	cancel()
	if fault.ClassOf(err) == fault.Unavailable {
		o.note(ctx, o.Name(), err)
		return publish.Result{}, err
	}
	r, err := o.Publisher.Publish(ctx, img, progress)
	o.note(ctx, o.Name(), err)
	return r, err
}

// observed wraps targets so that the service learns how they are.
func (d *Daemon) observed(targets []publish.Publisher) []publish.Publisher {
	var out []publish.Publisher
	for _, t := range targets {
		out = append(out, observed{t, d.noteTarget})
	}
	return out
}

// checkLimit bounds the check of one target.
const checkLimit = 2 * time.Minute

// checkTargets looks whether the targets can be published to: each once after the
// configuration was read, so that a wrong key is known before the first image is
// ready, and those that fail again and again with growing pauses. It returns when
// the next check is due; the zero time if all are well.
func (d *Daemon) checkTargets(ctx context.Context) (due time.Time) {
	for _, t := range d.settings().targets {
		d.mu.Lock()
		h := d.targets[t.Name()]
		d.mu.Unlock()
		if h == nil || (h.failures > 0 && !time.Now().Before(h.due)) {
			d.publishLife.busy(2 * checkLimit)
			limited, cancel := context.WithTimeout(ctx, checkLimit)
			err := t.Check(limited)
			cancel()
			d.noteTarget(ctx, t.Name(), err)
		}
		d.mu.Lock()
		if h := d.targets[t.Name()]; h != nil && h.failures > 0 && (due.IsZero() || h.due.Before(due)) {
			due = h.due
		}
		d.mu.Unlock()
	}
	return due
}

// noteTarget notes how a target took a publication or a check. Failures that are
// about the image, or the end of the service, say nothing of the target.
func (d *Daemon) noteTarget(ctx context.Context, name string, err error) {
	if ctx.Err() != nil || fault.ClassOf(err) == fault.Input {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.targets[name]
	if h == nil {
		h = &health{}
		d.targets[name] = h
	}
	what := "target " + name
	if err != nil {
		h.due = time.Now().Add(pause(h.failures))
		h.failures++
		d.trouble(what, "Target "+name+": "+clause(err))
		if h.failures == 1 {
			d.log.Warn(fmt.Sprintf("Target %s cannot be published to: %s.", name, clause(err)), journal.TargetUnreachable.Attr(), "target", name, "error", err)
		}
		return
	}
	failed := h.failures > 0
	h.failures = 0
	d.trouble(what, "")
	if !failed {
		return
	}
	d.log.Info(fmt.Sprintf("Target %s works again.", name), journal.TargetRecovered.Attr(), "target", name)
	// What waited for it need not wait any longer.
	for _, b := range d.builds {
		if b.State == build.Built && !d.isRunning(b) {
			b.NotBefore = time.Time{}
		}
	}
	wake(d.publishWake)
}

// forgetTargets lets all targets be checked anew. The caller holds d.mu.
func (d *Daemon) forgetTargets() {
	for name := range d.targets {
		d.trouble("target "+name, "")
	}
	clear(d.targets)
}
