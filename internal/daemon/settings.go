package daemon

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/watch"
)

// settings are what a reload replaces, all at once. Nothing changes them once
// they are in use; who needs two things of them asks once, so that both are of
// the same configuration.
type settings struct {
	cfg     *config.Config
	targets []publish.Publisher
}

func newSettings(load func() (*config.Config, error)) (*settings, error) {
	cfg, err := load()
	if err != nil {
		return nil, err
	}
	targets, err := Targets(cfg)
	if err != nil {
		return nil, err
	}
	return &settings{cfg, targets}, nil
}

// settings returns those in use. Any goroutine may ask.
func (d *Daemon) settings() *settings { return d.inUse.Load() }

// watches are the watched directories, and how often to look again at what could not
// be done.
type watches struct {
	isos, kickstarts <-chan watch.Event
	retry            *time.Ticker
	stop             func()
}

// watch begins to watch the directories of a configuration.
func (d *Daemon) watch(ctx context.Context, cfg *config.Config) (*watches, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watches{retry: time.NewTicker(cfg.Watch.Rescan)}
	w.stop = func() { cancel(); w.retry.Stop() }
	o := watch.Options{Settle: cfg.Watch.Settle, Rescan: cfg.Watch.Rescan}
	var err error
	if w.kickstarts, err = watch.Kickstarts(ctx, cfg.KickstartDir, o); err == nil {
		o.Again, o.Whole = d.rescan, iso.Whole
		w.isos, err = watch.ISOs(ctx, d.incoming(), o)
	}
	if err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// Reload lets the service read its configuration, and all it watches, again. It
// does not wait for that.
func (d *Daemon) Reload() { wake(d.reload) }

// reconfigure reads the configuration again and, if it can be used, swaps it in.
// What is running goes on with the configuration it began with. It returns the
// watches that are to be listened to from now on.
func (d *Daemon) reconfigure(ctx context.Context, old *watches) *watches {
	notify("RELOADING=1\n" + sd.SdNotifyMonotonicUsec())
	defer notify("READY=1")
	next, err := newSettings(d.load)
	if err != nil {
		d.refuse(err)
		return old
	}
	d.keepFixed(next.cfg)
	fresh, err := d.watch(ctx, next.cfg)
	if err != nil {
		d.refuse(err)
		return old
	}
	d.inUse.Store(next)
	old.stop()
	d.log.Info(fmt.Sprintf("Configuration read again; targets: %d.", len(next.targets)))
	d.sayIfNoTarget()
	d.afresh()
	d.checkSpace()
	d.reconcile()
	return fresh
}

// refuse tells that a configuration cannot be used, until one can.
func (d *Daemon) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble(troubleConfig, "The new configuration is not used: "+err.Error())
	d.log.Error("The new configuration is not used, the service goes on with the old one: "+err.Error()+".", journal.ConfigRefused.Attr(), "error", err)
}

// keepFixed puts back into a configuration what can only change with a restart:
// the lock, the records and the running builds are in these directories, and it is
// decided at the start where steps run.
func (d *Daemon) keepFixed(cfg *config.Config) {
	old := d.settings().cfg
	for _, fixed := range []struct {
		key       string
		next, old *string
	}{{"state_dir", &cfg.StateDir, &old.StateDir}, {"runtime_dir", &cfg.RuntimeDir, &old.RuntimeDir}, {"service.steps", &cfg.Service.Steps, &old.Service.Steps}} {
		if *fixed.next != *fixed.old {
			d.log.Warn(fmt.Sprintf("%s stays %s until the service is restarted.", fixed.key, *fixed.old), "key", fixed.key)
			*fixed.next = *fixed.old
		}
	}
}

// afresh forgets troubles that a new configuration may have ended, and lets builds
// that wait for another try have it now: whoever reloads has mended something.
func (d *Daemon) afresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, what := range []string{troubleConfig, troubleIncoming, troubleKickstarts} {
		d.trouble(what, "")
	}
	d.forgetTargets()
	for _, b := range d.builds {
		if !d.isRunning(b) && !b.NotBefore.IsZero() && (b.State == build.Queued || b.State == build.Built) {
			b.NotBefore, b.Attempts = time.Time{}, 0
			d.save(b)
		}
	}
}
