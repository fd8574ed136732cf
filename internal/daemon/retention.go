package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/esxid/esxid/internal/build"
)

// prune removes what retention does not keep. What is current, running or not
// yet on every target stays whatever the settings say.
func (d *Daemon) prune() {
	removable := d.sorted(func(b *build.Build) bool {
		return !d.isRunning(b) && !d.isCurrent(b)
	})
	slices.Reverse(removable) // newest first
	kept := map[string]int{}
	for _, b := range d.builds {
		if d.isCurrent(b) {
			kept[b.Plan.Name]++
		}
	}
	failed := 0
	for _, b := range removable {
		switch {
		case b.State == build.Failed && failed < d.cfg.Retention.FailedBuilds:
			failed++
		case (b.State == build.Done || b.State == build.Built) && kept[b.Plan.Name] < d.cfg.Retention.ImagesPerName:
			kept[b.Plan.Name]++
		default:
			d.remove(b)
		}
	}
	d.shrink(removable)
}

// remove deletes a build and, if it still is the one in the image's directory,
// its image.
func (d *Daemon) remove(b *build.Build) {
	dir := d.store.ImageDir(b.Plan)
	m, err := build.ReadManifest(filepath.Join(dir, build.ImageName(b.Plan)))
	if err == nil && m.Build == b.ID() {
		err = os.RemoveAll(dir)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, d.store.Remove(b.ID()))
	if err != nil {
		d.log.Error("cannot remove an old build", "build", b.ID(), "error", err)
		return
	}
	delete(d.builds, b.ID())
	d.log.Info("removed an old build", "build", b.ID(), "name", b.Plan.Name)
}

// shrink removes the oldest builds that may go until the size limit holds.
func (d *Daemon) shrink(removable []*build.Build) {
	limit := int64(d.cfg.Retention.MaxGiB) << 30
	if limit == 0 {
		return
	}
	for i := len(removable) - 1; i >= 0; i-- {
		used, err := diskUsage(d.library.dir, d.store.Builds, d.store.Images)
		if err != nil {
			d.log.Error("cannot measure the state directory", "error", err)
			return
		}
		if used <= limit {
			return
		}
		if d.builds[removable[i].ID()] != nil {
			d.remove(removable[i])
		}
	}
}

// diskUsage is what files take on the disk, in bytes; holes and second names of
// a file do not count.
func diskUsage(dirs ...string) (int64, error) {
	seen := map[fileID]bool{}
	var total int64
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
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
