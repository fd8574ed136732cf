package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

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
	if limit := int64(d.settings().cfg.Retention.MaxGiB) << 30; limit > 0 {
		d.shrink(limit, old, outdated)
	}
}

// pruneRejected removes the oldest of what was rejected, whatever else can be found out
// or not.
func (d *Daemon) pruneRejected() {
	names := d.rejections()
	for _, name := range names[:max(0, len(names)-d.settings().cfg.Retention.Rejected)] {
		d.removeRejected(name)
	}
}

// rejections returns the names of what was rejected and is still there with its reason
// beside it, oldest first. The directory is the operator's too: all else in it is not
// esxid's to remove.
func (d *Daemon) rejections() []string {
	entries, err := os.ReadDir(d.rejected())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("It cannot be found out what was rejected: "+err.Error()+".", "error", err)
	}
	at := map[string]time.Time{} // the reason is new when its file is moved; a renamed file keeps its own time
	for _, e := range entries {
		name, isReason := strings.CutSuffix(e.Name(), ".reason")
		if !isReason || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue // what is hidden is half-made; and ".reason" would be the directory's own
		}
		info, err := e.Info()
		if err != nil {
			continue // the operator has just removed it
		}
		if _, err := os.Lstat(filepath.Join(d.rejected(), name)); err == nil {
			at[name] = info.ModTime()
		}
	}
	return slices.SortedFunc(maps.Keys(at), func(a, b string) int {
		return cmp.Or(at[a].Compare(at[b]), cmp.Compare(a, b))
	})
}

// removeRejected removes what was rejected, itself and not what a link leads to, with
// its reason.
func (d *Daemon) removeRejected(name string) {
	path := filepath.Join(d.rejected(), name)
	aside := filepath.Join(d.rejected(), fmt.Sprintf("%s%d", removed, time.Now().UnixNano()))
	err := os.Rename(path, aside)
	if err == nil {
		err = errors.Join(d.throwAway(aside), os.Remove(path+".reason"))
	}
	if err != nil {
		d.log.Error("A rejected file cannot be removed: "+clause(err)+".", "file", path, "error", err)
		return
	}
	d.log.Info(fmt.Sprintf("Removed %s, which was rejected.", path), "file", path)
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

// shrink removes what was rejected, then old builds, each oldest first, and then
// outdated ISOs until all that is kept takes no more than limit bytes.
func (d *Daemon) shrink(limit int64, old, outdated []*build.Build) {
	rejected := d.rejections()
	over := func() bool {
		dirs := []string{d.library.dir, d.store.Builds, d.store.Images}
		for _, name := range rejected {
			dirs = append(dirs, filepath.Join(d.rejected(), name))
		}
		used, err := diskUsage(dirs...)
		if err != nil {
			d.log.Error("The state directory cannot be measured: "+err.Error()+".", "error", err)
		}
		return err == nil && used > limit
	}
	for len(rejected) > 0 && over() {
		d.removeRejected(rejected[0])
		rejected = rejected[1:]
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

// diskUsage is what files and those in directories take on the disk, in bytes; holes and
// second names of a file do not count, nor what is hidden in dirs: it comes or goes.
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
				return forgive(err)
			}
			info, err := e.Info()
			if err != nil {
				return forgive(err)
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

// forgive forgives files that a running step removes meanwhile, and what somebody who
// dropped a directory lets nobody read: neither may end the measuring.
func forgive(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
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
