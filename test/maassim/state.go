package maassim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// database is what MAAS keeps in PostgreSQL.
type database struct {
	path string // written to after every change, unless empty

	Users     []*User
	Machines  []*Machine
	Resources []*resource
	Blobs     map[string]*blob // by sha256: the large objects of MAAS up to 3.4
	LastID    int              // of resources, sets and files
}

// blob is a row of LargeFile (up to 3.4): the bytes of one sha256, whoever
// uploads them.
type blob struct {
	Size, Received int64
}

type resource struct {
	ID                              int
	Name, Architecture, Title, Base string
	Sets                            []*set // oldest first
}

type set struct {
	ID      int
	Version string
	File    *file // nil: an empty set, left behind when its file was replaced
}

type file struct {
	ID         int
	Filename   string // root-dd.gz, root.tgz, ...
	Filetype   string // root-dd.gz, root-tgz, ...
	SHA256     string
	Size       int64
	OnDisk     string // name in the image store, from 3.5
	Received   int64  // from 3.5: bytes this region counts, whatever is on its disk
	ReceivedAt time.Time
}

func (d *database) load(path string) error {
	d.path = path
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, d); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

func (d *database) save() error {
	if d.path == "" {
		return nil
	}
	data, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	tmp := d.path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, d.path)
}

func (d *database) nextID() int {
	d.LastID++
	return d.LastID
}

func (d *database) resource(id int) *resource {
	i := slices.IndexFunc(d.Resources, func(r *resource) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return d.Resources[i]
}

// file finds an uploaded file by its id alone, as MAAS does.
func (d *database) file(id int) *file {
	for f := range d.files {
		if f.ID == id {
			return f
		}
	}
	return nil
}

// files iterates over all files of all resources.
func (d *database) files(yield func(*file) bool) {
	for _, r := range d.Resources {
		for _, s := range r.Sets {
			if s.File != nil && !yield(s.File) {
				return
			}
		}
	}
}

// inUse reports whether any file has that content.
func (d *database) inUse(sha string) bool {
	for f := range d.files {
		if f.SHA256 == sha {
			return true
		}
	}
	return false
}

// onDisk chooses the name of a file in the image store: the shortest prefix of
// its sha256, seven characters at least, that no other content has.
func (d *database) onDisk(sha string) string {
	taken := func(name string) bool {
		for f := range d.files {
			if f.OnDisk == name && f.SHA256 != sha {
				return true
			}
		}
		return false
	}
	n := min(7, len(sha))
	for n < len(sha) && taken(sha[:n]) {
		n++
	}
	return sha[:n]
}

// received is how many bytes of f MAAS counts on the region that serves.
func (s *Sim) received(f *file) int64 {
	if !s.gen.percent {
		return s.db.Blobs[f.SHA256].Received
	}
	return f.Received
}

// synced is the same summed over all regions: the others copy a finished file.
func (s *Sim) synced(f *file) int64 {
	n := s.received(f)
	if s.regions() == 2 && f.Received == f.Size && s.opts.Now().Sub(f.ReceivedAt) >= s.opts.SyncDelay {
		n *= 2
	}
	return n
}

func (s *Sim) regions() int64 {
	if s.gen.percent && s.faults.lasting[twoRegions] {
		return 2
	}
	return 1
}

func (s *Sim) complete(f *file) bool { return s.synced(f) == f.Size*s.regions() }

// Image is what MAAS deploys for a resource: the file of its newest complete
// set.
type Image struct {
	Name, Architecture, Title, Version string
	SHA256                             string // as declared when it was created
	Size                               int64
	Path                               string // of the bytes on disk
}

// Images returns the deployable images by name.
func (s *Sim) Images() []Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	var images []Image
	for _, r := range s.db.Resources {
		if set := s.newestComplete(r); set != nil {
			f := set.File
			images = append(images, Image{r.Name, r.Architecture, r.Title, set.Version, f.SHA256, f.Size, s.store.path(s.nameOnDisk(f))})
		}
	}
	slices.SortFunc(images, func(a, b Image) int { return cmp.Compare(a.Name, b.Name) })
	return images
}

func (s *Sim) newestComplete(r *resource) *set {
	for _, set := range slices.Backward(r.Sets) {
		if set.File != nil && s.complete(set.File) {
			return set
		}
	}
	return nil
}

// nameOnDisk is what the storage calls a file.
func (s *Sim) nameOnDisk(f *file) string {
	if s.gen.percent {
		return f.OnDisk
	}
	return f.SHA256
}

// CheckImages returns an error if any image MAAS calls complete does not have
// the content that was declared for it.
func (s *Sim) CheckImages() error {
	for _, image := range s.Images() {
		sum, size, err := hashFile(image.Path)
		if err != nil {
			return fmt.Errorf("%s is complete but %w", image.Name, err)
		}
		if sum != image.SHA256 || size != image.Size {
			return fmt.Errorf("%s is complete but has %d bytes of sha256 %s, want %d of %s (%s)",
				image.Name, size, sum, image.Size, image.SHA256, filepath.Base(image.Path))
		}
	}
	return nil
}

// Received returns how many bytes of the newest set of a resource are counted
// on the region, and how many sets it has; -1 if there is no such resource.
func (s *Sim) Received(name string) (bytes int64, sets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.db.Resources {
		if r.Name != name || len(r.Sets) == 0 {
			continue
		}
		if f := r.Sets[len(r.Sets)-1].File; f != nil {
			return s.received(f), len(r.Sets)
		}
		return 0, len(r.Sets)
	}
	return -1, 0
}
