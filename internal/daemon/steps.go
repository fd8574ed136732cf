package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/units"
)

// leftoverLimit is how long the start waits for what systemd says of units that an
// earlier service started.
const leftoverLimit = 20 * time.Second

// useUnits decides, once and at the start, where the steps run that need other
// rights than the service may have.
func (d *Daemon) useUnits() {
	if units.Use(d.settings().cfg.Service.Steps) {
		d.units = units.New(d.log)
		d.log.Debug("The steps install and customize run in units of systemd.")
	}
}

// runUnit follows a unit for the loop of the builds.
func (d *Daemon) runUnit(ctx context.Context, unit string, o units.RunOptions) (units.Exit, error) {
	o.Asked, o.Here = d.buildLife.asked, d.buildLife.here
	return d.units.Run(ctx, unit, o)
}

// clearUnits ends the units that run for builds which do not ask for them any
// more, and lets systemd forget the failures of builds that are gone. The units
// of the others are followed when their build has its turn, which comes next.
func (d *Daemon) clearUnits(ctx context.Context) {
	if d.units == nil {
		return
	}
	asking, cancel := context.WithTimeout(ctx, leftoverLimit)
	defer cancel()
	d.buildLife.here()
	list, err := d.units.List(asking)
	if err != nil {
		d.log.Warn("It is not known which steps still run: "+err.Error()+".", "error", err)
		return
	}
	for _, u := range list {
		d.buildLife.here() // each may take most of a minute
		d.mu.Lock()
		b := d.builds[u.Build]
		wanted := b != nil && d.isCurrent(b) && b.State == build.Queued && b.Job != nil && b.Job.Step == u.Step
		if wanted && !u.Failed {
			d.underWay[u.Build] = u.Step
			d.log.Info(fmt.Sprintf("Following the step %s of %s, which is under way in %s.", u.Step, b.Plan.Name, u.Name),
				"build", u.Build, "name", b.Plan.Name, "step", u.Step, "unit", u.Name)
		}
		d.mu.Unlock()
		switch {
		case u.Failed && b == nil:
			d.forgetUnit(ctx, u.Name)
		case !u.Failed && !wanted:
			d.log.Info(fmt.Sprintf("Stopping %s: nothing asks for it any more.", u.Name), "build", u.Build, "step", u.Step)
			if err := d.units.Stop(ctx, u.Name); err != nil {
				d.log.Warn(err.Error()+".", "build", u.Build, "error", err)
				continue
			}
			d.mu.Lock()
			if b != nil && !d.isRunning(b) {
				b.Job = nil // else its end would be taken for somebody's wish
				d.save(b)
			}
			d.mu.Unlock()
		}
	}
}

// forgetUnits lets systemd forget the failed units of a build that is removed.
func (d *Daemon) forgetUnits(id string) {
	if d.units == nil {
		return
	}
	go func() { // systemd need not answer soon
		ctx, cancel := context.WithTimeout(context.Background(), leftoverLimit)
		defer cancel()
		for _, step := range []string{build.StepInstall, build.StepCustomize} {
			d.forgetUnit(ctx, units.Name(step, id))
		}
	}()
}

func (d *Daemon) forgetUnit(ctx context.Context, unit string) {
	if err := d.units.ResetFailed(ctx, unit); err != nil {
		d.log.Debug(err.Error()+".", "error", err)
	}
}
