package build

import (
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Snapshot is the service at one moment, as D-Bus shows it. It holds copies: what
// happens afterwards does not change it.
type Snapshot struct {
	Line   string   // what the service does, in one line for people
	Builds []Status // oldest first
	Images []Image  // by directory
}

// Status is a build at one moment.
type Status struct {
	Build *Build
	// Current says whether something still asks for this build. The inputs of
	// one that is not current have changed, or its ISO is gone.
	Current bool
	// Queue is the build's place among those that wait for their turn: 1 is next.
	// 0: it does not wait.
	Queue  int
	Active *Active // nil: no step is running
}

// Active is what is known of a step that runs.
type Active struct {
	Step    string
	Percent float64 // below 0: unknown
	Done    int64   // bytes
	Total   int64   // bytes; 0: unknown
	Message string
	Started time.Time // of the step
	// Left is how long the build still takes; below 0: unknown.
	Left time.Duration
	// At is when all this was so.
	At time.Time
}

// Image is a finished image.
type Image struct {
	ID        string // name of its directory
	Path      string // of the .dd.gz
	Build     string // build id
	Plan      Plan
	Record    ImageRecord
	Created   time.Time
	Published map[string]Publication // by target
}

// ImagesOf returns the images of builds. Of builds that share a directory the one
// that was verified last has it.
func (s *Store) ImagesOf(builds []Status) []Image {
	last := map[string]Image{}
	for _, status := range builds {
		b := status.Build
		verified, ok := b.Steps[StepVerify]
		if !ok || b.Image == nil {
			continue
		}
		dir := s.ImageDir(b.Plan)
		if other, ok := last[dir]; ok && other.Created.After(verified.Finished) {
			continue
		}
		last[dir] = Image{
			ID: filepath.Base(dir), Path: filepath.Join(dir, ImageName(b.Plan)), Build: b.ID(),
			Plan: b.Plan, Record: *b.Image, Created: verified.Finished, Published: b.Published,
		}
	}
	var images []Image
	for _, dir := range slices.Sorted(maps.Keys(last)) {
		images = append(images, last[dir])
	}
	return images
}

// Clone returns a copy that shares nothing that changes. A plan does not change.
func (b *Build) Clone() *Build {
	c := *b
	c.Steps, c.Published = maps.Clone(b.Steps), maps.Clone(b.Published)
	if b.Image != nil {
		image := *b.Image
		c.Image = &image
	}
	if b.Error != nil {
		record := *b.Error
		c.Error = &record
	}
	return &c
}
