package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/kickstart"
	"github.com/esxid/esxid/internal/watch"
)

// onKickstart handles what the watch says about the overrides.
func (d *Daemon) onKickstart(e watch.Event) {
	switch e.Kind {
	case watch.Changed:
		d.log.Info("Kickstart overrides changed: "+strings.Join(e.Paths, ", ")+".", "files", e.Paths)
		d.reconcile()
	case watch.Trouble, watch.Recovered:
		d.watchTrouble(troubleKickstarts, e)
		d.reconcile()
	case watch.Complete, watch.Refused, watch.Waiting, watch.Gone:
	}
}

// watchTrouble notes that a directory is not watched, or is watched again.
func (d *Daemon) watchTrouble(what string, e watch.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Kind == watch.Recovered {
		d.trouble(what, "")
		d.log.Info("Watching "+e.Path+" again.", "directory", e.Path)
		return
	}
	d.trouble(what, "Not watching "+e.Path+": "+e.Reason)
	d.log.Error(e.Path+" is not watched: "+e.Reason+".", journal.WatchTrouble.Attr(), "directory", e.Path, "error", e.Reason)
}

// reconcile makes the builds the library, the overrides and the configuration
// ask for. A build whose inputs are unchanged is the same build and is left
// alone; so an override rebuilds exactly what it affects.
//
// What cannot be found out now must not look like something that is gone: an ISO
// without a plan keeps the build it had, and nothing is removed but what was rejected.
func (d *Daemon) reconcile() {
	d.mu.Lock()
	d.pruneRejected()
	d.plan()
	trash := d.trash
	d.trash = nil
	d.mu.Unlock()
	d.empty(trash)
	wake(d.buildWake)
	wake(d.publishWake)
}

// plan is reconcile for a caller that holds d.mu.
func (d *Daemon) plan() {
	entries, damaged, err := d.library.all()
	d.incomplete = err != nil || len(damaged) > 0
	if err != nil {
		d.cannotPlan([]error{err})
		return
	}
	wanted := map[string]string{}
	want := func(sum, id string) {
		if id != "" {
			wanted[sum] = id
		}
	}
	for sum := range damaged {
		want(sum, d.current[sum])
	}
	var failed []error
	for _, e := range entries {
		d.added[e.SHA256] = e.Added
		id, err := d.want(e)
		if err != nil {
			if d.damaged[id] == nil {
				failed = append(failed, fmt.Errorf("cannot plan the build of %s (%s, build %s): %w", e.Path, e.Version, e.Build, err))
			}
			d.incomplete, id = true, d.current[e.SHA256]
		}
		want(e.SHA256, id)
	}
	d.cannotPlan(failed)
	d.damage(damaged)
	d.current = wanted
	d.supersede()
	d.unpublished()
	if !d.incomplete {
		d.prune()
	}
	d.refresh()
	d.announce()
}

// cannotPlan notes why not all is planned; without a reason, all is.
func (d *Daemon) cannotPlan(reasons []error) {
	if len(reasons) == 0 {
		d.trouble(troublePlan, "")
		return
	}
	text := "Not all is built: " + clause(reasons[0])
	if len(reasons) > 1 {
		text += fmt.Sprintf(" (and %d more, see the journal)", len(reasons)-1)
	}
	if !d.trouble(troublePlan, text) {
		return
	}
	for _, err := range reasons {
		d.log.Error("Not all can be built now: "+clause(err)+"; it is tried again later.", "error", err)
	}
}

// clause is an error as part of a sentence: several errors in one have a line each,
// and systemd ends its own with a full stop.
func clause(err error) string {
	return strings.TrimSuffix(strings.ReplaceAll(err.Error(), "\n", "; "), ".")
}

// damage notes the records that cannot be used: of ISOs, by sum, and of builds.
func (d *Daemon) damage(isos map[string]error) {
	var texts []string
	for _, sum := range slices.Sorted(maps.Keys(isos)) {
		texts = append(texts, isos[sum].Error())
	}
	for _, id := range slices.Sorted(maps.Keys(d.damaged)) {
		texts = append(texts, d.damaged[id].Error())
	}
	if !d.trouble(troubleRecords, strings.Join(texts, "; ")) || len(isos) == 0 {
		return
	}
	for _, sum := range slices.Sorted(maps.Keys(isos)) {
		d.log.Error("An ISO of the library cannot be used and is left alone: "+isos[sum].Error()+".", journal.RecordDamaged.Attr(), "iso", sum, "error", isos[sum])
	}
}

// lookAgain does once more what could not be found out or written the last time.
func (d *Daemon) lookAgain() {
	d.mu.Lock()
	for id := range d.unsaved {
		if b := d.builds[id]; b == nil {
			delete(d.unsaved, id)
		} else if !d.isRunning(b) {
			d.save(b)
		}
	}
	incomplete := d.incomplete || len(d.damaged) > 0
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
	if err := d.mended(plan.ID); err != nil {
		return plan.ID, err
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
	d.log.Info(fmt.Sprintf("Queued %s, build %s, with %s.", plan.Name, plan.ISO.Build, strings.Join(plan.Kickstart, ", ")), journal.Queued.Attr(),
		"build", b.ID(), "name", plan.Name, "title", plan.Title, "kickstart", plan.Kickstart)
	for _, note := range plan.Notes {
		d.log.Warn(note+".", "build", b.ID(), "name", plan.Name)
	}
	return plan.ID, nil
}

// mended says why the record of a build still cannot be used, if it could not. The
// operator may have put it back or removed its directory.
func (d *Daemon) mended(id string) error {
	if d.damaged[id] == nil {
		return nil
	}
	b, err := d.store.Load(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		d.damaged[id] = err
		return err
	default:
		if err := d.adopt(b); err != nil {
			return err
		}
	}
	delete(d.damaged, id)
	return nil
}

// supersede stops the work on builds nothing asks for any more.
func (d *Daemon) supersede() {
	for id, cancel := range d.running {
		if b := d.builds[id]; !d.isCurrent(b) && b.State == build.Building {
			d.log.Info(fmt.Sprintf("Stopping the build of %s: its inputs have changed.", b.Plan.Name), "build", id, "name", b.Plan.Name)
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

// published says whether a target has a build of an ISO. Of one that is being
// published it is what was so before.
func (d *Daemon) published(sum string) bool {
	for _, b := range d.builds {
		if b.Plan.ISO.SHA256 == sum && len(d.visible(b).Published) > 0 {
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

// transition changes a build's state and saves it. The state in memory counts.
func (d *Daemon) transition(b *build.Build, s build.State) {
	if err := b.To(s, time.Now()); err != nil {
		d.log.Error("Internal error: "+err.Error()+".", "error", err)
		return
	}
	if s == build.Queued || s == build.Built {
		b.NotBefore, b.Attempts = time.Time{}, 0
	}
	d.save(b)
}

// save writes a build's record. One that cannot be written now (the disk is full) is
// written with the next change, or at the next look.
func (d *Daemon) save(b *build.Build) {
	err := d.store.Save(b)
	if err == nil {
		delete(d.unsaved, b.ID())
		return
	}
	if !d.unsaved[b.ID()] {
		d.log.Error("A build's record cannot be saved; it is tried again: "+err.Error()+".", "build", b.ID(), "name", b.Plan.Name, "error", err)
	}
	d.unsaved[b.ID()] = true
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
