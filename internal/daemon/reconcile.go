package daemon

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/kickstart"
	"github.com/esxid/esxid/internal/watch"
)

// onKickstart handles what the watch says about the overrides.
func (d *Daemon) onKickstart(e watch.Event) {
	switch e.Kind {
	case watch.Changed:
		d.log.Info("kickstart overrides changed", "files", e.Paths)
		d.reconcile()
	case watch.Trouble:
		d.log.Error("cannot watch the kickstart overrides", "directory", e.Path, "error", e.Reason)
	case watch.Recovered:
		d.log.Info("watching the kickstart overrides again", "directory", e.Path)
		d.reconcile()
	case watch.Complete, watch.Refused, watch.Waiting, watch.Gone:
	}
}

// reconcile makes the builds the library, the overrides and the configuration
// ask for. A build whose inputs are unchanged is the same build and is left
// alone; so an override rebuilds exactly what it affects.
//
// What cannot be found out now must not look like something that is gone: an ISO
// without a plan keeps the build it had, and nothing is removed.
func (d *Daemon) reconcile() {
	d.mu.Lock()
	defer d.mu.Unlock()
	entries, damaged, err := d.library.all()
	d.incomplete = err != nil || len(damaged) > 0
	if err != nil {
		d.log.Error("cannot look for what is to be built; it is tried again later", "error", err)
		return
	}
	wanted := map[string]string{}
	want := func(sum, id string) {
		if id != "" {
			wanted[sum] = id
		}
	}
	for sum, err := range damaged {
		d.log.Error("an ISO of the library cannot be used", "error", err)
		want(sum, d.current[sum])
	}
	for _, e := range entries {
		d.added[e.SHA256] = e.Added
		id, err := d.want(e)
		if err != nil {
			d.log.Error("cannot plan a build; it is tried again later", "iso", e.Path, "version", e.Version, "error", err)
			d.incomplete, id = true, d.current[e.SHA256]
		}
		want(e.SHA256, id)
	}
	d.current = wanted
	d.supersede()
	d.unpublished()
	if !d.incomplete {
		d.prune()
	}
	d.idle()
	d.announce()
	wake(d.buildWake)
	wake(d.publishWake)
}

// again reconciles once more if something could not be found out or written the
// last time.
func (d *Daemon) again() {
	d.mu.Lock()
	incomplete := d.incomplete
	d.mu.Unlock()
	if incomplete {
		d.reconcile()
	}
}

// want makes sure the build of an ISO exists and returns its id.
func (d *Daemon) want(e entry) (string, error) {
	// A directory that was moved away for a moment is not one without overrides.
	cfg := d.settings().cfg
	if _, err := os.Stat(cfg.KickstartDir); err != nil {
		return "", fmt.Errorf("cannot read the kickstart overrides: %w", err)
	}
	src, err := kickstart.Select(cfg.KickstartDir, kickstart.Version{Number: e.Version, Build: e.Build})
	if err != nil {
		return "", err
	}
	plan, err := build.NewPlan(cfg, e.Info, src, d.secret)
	if err != nil {
		return "", err
	}
	if b := d.builds[plan.ID]; b != nil && d.isRunning(b) {
		return plan.ID, nil // its worker has the record; the next look comes when it is done
	}
	isoFile := d.library.isoPath(e.SHA256)
	if b := d.builds[plan.ID]; b != nil {
		return plan.ID, d.store.Update(b, plan, isoFile, time.Now())
	}
	b, err := d.store.Create(plan, src, isoFile, time.Now())
	if err != nil {
		return "", err
	}
	d.builds[plan.ID] = b
	d.log.Info("queued", "build", b.ID(), "name", plan.Name, "title", plan.Title, "kickstart", plan.Kickstart)
	for _, note := range plan.Notes {
		d.log.Warn(note, "build", b.ID())
	}
	return plan.ID, nil
}

// supersede stops the work on builds nothing asks for any more.
func (d *Daemon) supersede() {
	for id, cancel := range d.running {
		if b := d.builds[id]; !d.isCurrent(b) && b.State == build.Building {
			d.log.Info("stopping a build whose inputs have changed", "build", id)
			cancel()
		}
	}
}

func (d *Daemon) isRunning(b *build.Build) bool { return d.running[b.ID()] != nil }
func (d *Daemon) isCurrent(b *build.Build) bool { return d.current[b.Plan.ISO.SHA256] == b.ID() }

// unpublished sends finished builds to targets that do not have them: a target
// that was added, or a build that has its name again. If another build of the
// same ESXi build has taken the image's place meanwhile (an override was changed
// and changed back), the image is put there again first.
func (d *Daemon) unpublished() {
	for _, b := range d.builds {
		switch {
		case b.State != build.Done && b.State != build.Built, d.isRunning(b), !d.isCurrent(b), !d.owns(b):
		case !d.store.HasImage(b):
			d.transition(b, build.Queued)
		case b.State == build.Done && !d.everywhere(b):
			d.transition(b, build.Built)
		}
	}
}

func (d *Daemon) everywhere(b *build.Build) bool {
	for _, t := range d.settings().targets {
		has := b.Published[t.Name()]
		if b.Image == nil || has.SHA256 != b.Image.SHA256 || has.Address != t.Address() {
			return false
		}
	}
	return true
}

// owns says whether a build is the one its boot resource name stands for: of
// the ISOs that share a name, the one with the highest build number. Otherwise
// the order in which two ISOs were dropped, or finished, would decide. It does
// where the numbers are equal, as those of an OEM's successive ISOs often are.
// A build that failed makes way for an older ISO, unless the targets have an
// earlier build of its own ISO: those are not to go back.
func (d *Daemon) owns(b *build.Build) bool { return d.owner(b.Plan.Name) == b }

func (d *Daemon) owner(name string) *build.Build {
	var best *build.Build
	for _, id := range d.current {
		b := d.builds[id]
		if b == nil || b.Plan.Name != name || (b.State == build.Failed && !d.published(b.Plan.ISO.SHA256)) {
			continue
		}
		if best == nil || d.compare(b, best) > 0 {
			best = b
		}
	}
	return best
}

// published says whether a target has a build of an ISO.
func (d *Daemon) published(sum string) bool {
	for _, b := range d.builds {
		if b.Plan.ISO.SHA256 == sum && len(b.Published) > 0 {
			return true
		}
	}
	return false
}

// compare orders builds by ESXi build number, which grows with time across
// versions, then by when the ISO was dropped, and then by id, to be definite.
func (d *Daemon) compare(a, b *build.Build) int {
	x, _ := strconv.ParseUint(a.Plan.ISO.Build, 10, 64) // identification admits only digits
	y, _ := strconv.ParseUint(b.Plan.ISO.Build, 10, 64)
	return cmp.Or(cmp.Compare(x, y), d.added[a.Plan.ISO.SHA256].Compare(d.added[b.Plan.ISO.SHA256]), cmp.Compare(a.ID(), b.ID()))
}

// transition changes a build's state and saves it. A record that cannot be
// written now is written with the next change; the state in memory counts.
func (d *Daemon) transition(b *build.Build, s build.State) {
	if err := b.To(s, time.Now()); err != nil {
		d.log.Error("internal error", "error", err)
		return
	}
	if s == build.Queued || s == build.Built {
		b.NotBefore, b.Attempts = time.Time{}, 0
	}
	d.save(b)
}

func (d *Daemon) save(b *build.Build) {
	if err := d.store.Save(b); err != nil {
		d.log.Error("cannot save a build's record", "build", b.ID(), "error", err)
	}
}

// sorted returns the builds that pass a filter, oldest first.
func (d *Daemon) sorted(keep func(*build.Build) bool) []*build.Build {
	var out []*build.Build
	for _, b := range d.builds {
		if keep(b) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b *build.Build) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID(), b.ID()))
	})
	return out
}
