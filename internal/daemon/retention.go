package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/esxid/esxid/internal/build"
)

// prune removes what retention does not keep: builds that an ISO does not stand
// for any more, and ISOs that have enough newer ones of the same name. Only
// images that are there count, not those still to be built: else a bad override
// would cost the good images before its own builds have failed. What is running,
// owns its name or is what a target has stays whatever the settings say.
func (d *Daemon) prune() {
	images := map[string]int{}
	for _, b := range d.builds {
		if hasImage(b) && (d.isCurrent(b) || len(d.visible(b).Published) > 0) {
			images[b.Plan.Name]++
		}
	}
	old := d.sorted(func(b *build.Build) bool { return !d.isCurrent(b) && !d.isRunning(b) && len(b.Published) == 0 })
	slices.Reverse(old) // newest first
	failed := 0
	for _, b := range old {
		switch {
		case b.State == build.Failed && failed < d.settings().cfg.Retention.FailedBuilds:
			failed++
		case hasImage(b) && images[b.Plan.Name] < d.settings().cfg.Retention.ImagesPerName:
			images[b.Plan.Name]++
		default:
			d.remove(b)
		}
	}
	newer := map[string]int{}
	for _, b := range d.builds {
		if d.isCurrent(b) && hasImage(b) && d.owns(b) {
			newer[b.Plan.Name]++
		}
	}
	outdated := d.outdated()
	for _, b := range slices.Backward(outdated) { // newest first, behind the owner
		switch {
		case newer[b.Plan.Name] >= d.settings().cfg.Retention.ImagesPerName:
			d.retire(b)
		case hasImage(b):
			newer[b.Plan.Name]++
		}
	}
	d.shrink(old, outdated)
}

// hasImage says whether a build has a finished image.
func hasImage(b *build.Build) bool { return b.State == build.Built || b.State == build.Done }

// outdated returns the builds of ISOs whose name belongs to a newer one and that
// no target has, oldest ESXi build first.
func (d *Daemon) outdated() []*build.Build {
	list := d.sorted(func(b *build.Build) bool {
		return d.isCurrent(b) && !d.isRunning(b) && !d.owns(b) && b.State != build.Failed && len(b.Published) == 0
	})
	slices.SortFunc(list, d.compare)
	return list
}

// retire removes an outdated ISO with its build and its image.
func (d *Daemon) retire(b *build.Build) {
	sum := b.Plan.ISO.SHA256
	if err := d.library.remove(sum); err != nil {
		d.log.Error("An outdated ISO cannot be removed: "+clause(err)+".", "build", b.ID(), "name", b.Plan.Name, "error", err)
		return
	}
	delete(d.current, sum)
	d.log.Info(fmt.Sprintf("Removed the ISO of %s, build %s: there are newer ones of this name.", b.Plan.Name, b.Plan.ISO.Build),
		"name", b.Plan.Name, "version", b.Plan.ISO.Version, "iso_build", b.Plan.ISO.Build)
	d.remove(b)
}

// remove deletes a build and, if it still is the one in the image's directory,
// its image.
func (d *Daemon) remove(b *build.Build) {
	if err := errors.Join(d.store.RemoveImage(b), d.store.Remove(b.ID())); err != nil {
		d.log.Error("An old build cannot be removed: "+clause(err)+".", "build", b.ID(), "name", b.Plan.Name, "error", err)
		return
	}
	delete(d.builds, b.ID())
	if b.State == build.Failed {
		d.forgetUnits(b.ID())
	}
	d.log.Info("Removed an old build of "+b.Plan.Name+".", "build", b.ID(), "name", b.Plan.Name)
}

// throwAway notes what is to be removed. The caller holds d.mu, for which everybody
// would have to wait while a slow disk removes many gigabytes.
func (d *Daemon) throwAway(path string) error {
	d.trash = append(d.trash, path)
	return nil
}

// empty removes what was thrown away. What is left then, the next start removes.
func (d *Daemon) empty(trash []string) {
	for _, path := range trash {
		if err := d.removeAll(path); err != nil {
			d.log.Error("What was removed still takes space until the service is restarted: "+clause(err)+".", "file", path, "error", err)
		}
	}
}

// shrink removes old builds, oldest first, and then outdated ISOs until the size
// limit holds.
func (d *Daemon) shrink(old, outdated []*build.Build) {
	limit := int64(d.settings().cfg.Retention.MaxGiB) << 30
	over := func() bool {
		used, err := diskUsage(d.library.dir, d.store.Builds, d.store.Images)
		if err != nil {
			d.log.Error("The state directory cannot be measured: "+err.Error()+".", "error", err)
		}
		return err == nil && used > limit
	}
	if limit == 0 {
		return
	}
	for _, b := range slices.Backward(old) {
		if d.builds[b.ID()] != nil && over() {
			d.remove(b)
		}
	}
	for _, b := range outdated {
		if d.builds[b.ID()] != nil && over() {
			d.retire(b)
		}
	}
}

// diskUsage is what files take on the disk, in bytes; holes and second names of
// a file do not count, nor what is hidden in dirs: it comes or goes.
func diskUsage(dirs ...string) (int64, error) {
	seen := map[fileID]bool{}
	var total int64
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if filepath.Dir(path) == dir && strings.HasPrefix(filepath.Base(path), ".") {
				if e.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if err != nil || e.IsDir() {
				return ignoreMissing(err)
			}
			info, err := e.Info()
			if err != nil {
				return ignoreMissing(err)
			}
			id, blocks := identity(info)
			if !seen[id] {
				seen[id] = true
				total += blocks * 512
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

// ignoreMissing forgives files that a running step removes meanwhile.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fileID tells files apart by what they are, not by their names.
type fileID struct{ dev, ino uint64 }

// identity returns a file's id and the 512-byte blocks it takes.
func identity(info fs.FileInfo) (fileID, int64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, 0
	}
	return fileID{st.Dev, st.Ino}, st.Blocks
}
