package build

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/kickstart"
)

// Store keeps builds and finished images on disk:
//
//	builds/<id>/build.json   the record
//	builds/<id>/kickstart/   the layers the build was planned with
//	builds/<id>/…            what the steps leave
//	images/<name>-<build>/   image, manifest.json, SHA256SUMS
type Store struct {
	Builds string // directory
	Images string // directory
	// Dispose, if set, sees to it that a removed directory, which has been put aside
	// under another name, goes away. Without it that happens at once.
	Dispose func(dir string) error
}

// recordName is the file that holds a build's record.
const recordName = "build.json"

// recordFormat is the version of build.json's format.
const recordFormat = 1

// maxRecord bounds the size of a record that is read, in bytes.
const maxRecord = 4 << 20

// OpenStore opens a store and makes the directories that are missing.
func OpenStore(builds, images string) (*Store, error) {
	s := &Store{Builds: builds, Images: images}
	for _, dir := range []string{s.Builds, s.Images} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fault.New(fault.CannotWrite, "cannot make the state directory: %w", err)
		}
	}
	return s, nil
}

// Dir is the directory of a build.
func (s *Store) Dir(id string) string { return filepath.Join(s.Builds, id) }

// ImageDir is the directory of a build's finished image. Builds of one ISO with
// different kickstarts share it; the newest one has it.
func (s *Store) ImageDir(p Plan) string { return filepath.Join(s.Images, dirName(p.Name, p.ISO.Build)) }

// ImageName is the file name of an image.
func ImageName(p Plan) string {
	return fmt.Sprintf("vmware-esxi-%s-%s.dd.gz", p.ISO.Version, p.ISO.Build)
}

// HasImage says whether the finished image in the build's place is this build's.
// One that cannot be read now is not taken for another's.
func (s *Store) HasImage(b *Build) bool {
	m, err := ReadManifest(filepath.Join(s.ImageDir(b.Plan), ImageName(b.Plan)))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return m.Build == b.ID()
}

// Create makes the build of a plan, in the state queued. isoFile is where the
// ISO is. The build must not exist yet.
func (s *Store) Create(p Plan, src kickstart.Source, isoFile string, now time.Time) (*Build, error) {
	b := &Build{
		Format: recordFormat, Plan: p, ISOFile: isoFile, State: Queued, Steps: map[string]StepRecord{},
		Created: now.UTC().Truncate(time.Second), Changed: now.UTC().Truncate(time.Second),
	}
	// The directory appears with its record in it, so that a directory without
	// one is always damage.
	tmp, err := os.MkdirTemp(s.Builds, ".new-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a build directory: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o750); err != nil {
		return nil, fmt.Errorf("cannot make a build directory: %w", err)
	}
	if err := writeLayers(filepath.Join(tmp, "kickstart"), src); err != nil {
		return nil, err
	}
	if err := s.write(tmp, b); err != nil {
		return nil, err
	}
	if err := durable.Rename(tmp, s.Dir(p.ID)); err != nil {
		return nil, fmt.Errorf("cannot make the build directory of %s: %w", p.ID, err)
	}
	return b, nil
}

// Update takes over what a new plan of the same installation changes: the steps
// that depend on it are forgotten and will run again.
func (s *Store) Update(b *Build, p Plan, isoFile string, now time.Time) error {
	renamed := b.Plan.Name != p.Name || b.Plan.Title != p.Title
	if b.Plan.ImageKey == p.ImageKey && b.Plan.Access == p.Access && !renamed && b.ISOFile == isoFile {
		return nil
	}
	b.ISOFile = isoFile
	switch {
	case b.Plan.ImageKey != p.ImageKey:
		b.forget(StepCustomize)
	case renamed:
		b.forget(StepVerify) // the manifest and the image's place carry the name
	}
	if b.Plan.Name != p.Name {
		// The build still has its image, under its own second name.
		if err := s.RemoveImage(b); err != nil {
			return fmt.Errorf("cannot remove the image under its old name: %w", err)
		}
	}
	b.Plan = p
	// A failed build gets another chance when what it is made of has changed, but
	// not one that somebody has cancelled.
	if !b.done(StepVerify) && !b.Cancelled() && (b.State == Built || b.State == Done || b.State == Failed) {
		if err := b.To(Queued, now); err != nil {
			return err
		}
		b.Attempts, b.NotBefore = 0, time.Time{}
	}
	return s.Save(b)
}

// writeLayers copies the kickstart layers. They may hold a password.
func writeLayers(dir string, src kickstart.Source) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("cannot keep the kickstart: %w", err)
	}
	for i, layer := range src.Layers {
		name := fmt.Sprintf("%02d-%s", i, filepath.Base(layer.Path))
		if err := durable.WriteFile(filepath.Join(dir, name), layer.Text, 0o600); err != nil {
			return fmt.Errorf("cannot keep the kickstart: %w", err)
		}
	}
	return nil
}

// readLayers returns the layers a build was planned with, under the names they
// had then.
func (s *Store) readLayers(b *Build) (kickstart.Source, error) {
	var src kickstart.Source
	dir := filepath.Join(s.Dir(b.ID()), "kickstart")
	for i, path := range b.Plan.Kickstart {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%02d-%s", i, filepath.Base(path))))
		if err != nil {
			return src, fmt.Errorf("cannot read the build's kickstart: %w", err)
		}
		src.Layers = append(src.Layers, kickstart.Layer{Path: path, Text: text})
	}
	return src, nil
}

// Save writes a build's record.
func (s *Store) Save(b *Build) error { return s.write(s.Dir(b.ID()), b) }

func (s *Store) write(dir string, b *Build) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the record of build %s: %w", b.ID(), err)
	}
	return durable.WriteFile(filepath.Join(dir, recordName), append(text, '\n'), 0o640)
}

var idForm = regexp.MustCompile(`^[0-9][0-9.]{0,31}-[0-9A-Za-z]{1,32}-[0-9a-f]{8}$`)

// Load reads a build's record. A missing build is fs.ErrNotExist; a damaged
// record is fault.Input.
func (s *Store) Load(id string) (*Build, error) {
	if !idForm.MatchString(id) {
		return nil, fmt.Errorf("build %.60q: %w", id, fs.ErrNotExist)
	}
	path := filepath.Join(s.Dir(id), recordName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, dirErr := os.Stat(s.Dir(id)); dirErr == nil {
			return nil, fault.New(fault.Input, "%s is missing: remove its directory to build anew", path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read build %s: %w", id, err)
	}
	if info.Size() > maxRecord {
		return nil, fault.New(fault.Input, "%s is damaged: it has %d bytes: remove its directory to build anew", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read build %s: %w", id, err)
	}
	b := &Build{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(b); err != nil {
		return nil, fault.New(fault.Input, "%s is damaged: %w: remove its directory to build anew", path, err)
	}
	if b.Format != recordFormat || b.ID() != id || next[b.State] == nil {
		return nil, fault.New(fault.Input, "%s is damaged: format %d, id %.60q, state %.20q: remove its directory to build anew", path, b.Format, b.ID(), b.State)
	}
	if b.Steps == nil {
		b.Steps = map[string]StepRecord{}
	}
	return b, nil
}

// All loads every build, oldest first. Damaged ones are returned as errors, by id,
// beside the good ones.
func (s *Store) All() (builds []*Build, damaged map[string]error, err error) {
	entries, err := os.ReadDir(s.Builds)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the builds: %w", err)
	}
	damaged = map[string]error{}
	for _, e := range entries {
		if !idForm.MatchString(e.Name()) {
			continue
		}
		b, err := s.Load(e.Name())
		if err != nil {
			damaged[e.Name()] = err
			continue
		}
		builds = append(builds, b)
	}
	sort.SliceStable(builds, func(i, j int) bool { return builds[i].Created.Before(builds[j].Created) })
	return builds, damaged, nil
}

// Remove deletes a build's directory.
func (s *Store) Remove(id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("build %.60q: %w", id, fs.ErrNotExist)
	}
	return s.discard(s.Dir(id))
}

// RemoveImage deletes the finished image in a build's place if it is this
// build's.
func (s *Store) RemoveImage(b *Build) error {
	m, err := ReadManifest(filepath.Join(s.ImageDir(b.Plan), ImageName(b.Plan)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case m.Build != b.ID():
		return nil
	}
	return s.discard(s.ImageDir(b.Plan))
}

// discard removes a directory, of which nothing is left under its name whenever
// that is interrupted: Clean does the rest. It needs no space on the disk.
func (s *Store) discard(dir string) error {
	aside := filepath.Join(filepath.Dir(dir), fmt.Sprintf(".new-%d", time.Now().UnixNano()))
	switch err := os.Rename(dir, aside); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot remove %s: %w", dir, err)
	}
	if s.Dispose != nil {
		return s.Dispose(aside)
	}
	return os.RemoveAll(aside)
}

// temporary is the form of the names of directories that are being made, or
// removed, beside builds and images.
var temporary = regexp.MustCompile(`^\.new-[0-9]+$`)

// Clean removes what an interrupted Create, Remove or step left half-made.
// Images may be anybody's directory (esxid build): nothing else is touched there.
func (s *Store) Clean() error {
	isTemporary := func(e fs.DirEntry) bool { return e.IsDir() && temporary.MatchString(e.Name()) }
	isKey := func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), "."+secretName+".") }
	errs := []error{removeFrom(s.Builds, isTemporary), removeFrom(s.Images, isTemporary), removeFrom(filepath.Dir(s.Builds), isKey)}
	builds, err := os.ReadDir(s.Builds)
	errs = append(errs, err)
	for _, b := range builds {
		if !idForm.MatchString(b.Name()) {
			continue
		}
		// A unit may work in it yet. The next step there clears what it finds.
		if record, err := s.Load(b.Name()); err != nil || record.Job == nil {
			// Every temporary name in a build begins with a dot.
			errs = append(errs, removeFrom(s.Dir(b.Name()), func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }))
		}
	}
	return errors.Join(errs...)
}

// removeFrom removes those entries of a directory that are unwanted.
func removeFrom(dir string, unwanted func(fs.DirEntry) bool) error {
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		if unwanted(e) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// secretName is the file, beside the builds, that holds the key.
const secretName = "fingerprint.key"

// secretSize is its length in bytes.
const secretSize = 32

// Secret returns the key of password fingerprints, made if there is none. One that is
// damaged is not replaced: with another key builds get other ids, and all of them
// would be made again.
func (s *Store) Secret() ([]byte, error) {
	path := filepath.Join(filepath.Dir(s.Builds), secretName)
	secret, err := os.ReadFile(path)
	switch {
	case err == nil && len(secret) != secretSize:
		// Of the class for which systemd does not start the service again and again.
		return nil, fault.New(fault.Config, "cannot use %s: it has %d bytes and not %d: put it back from a backup, or remove it: "+
			"what has a configured root password is then built again", path, len(secret), secretSize)
	case err == nil:
		return secret, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("cannot read the fingerprint key: %w", err)
	}
	secret = make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails since Go 1.24
	return secret, durable.WriteFile(path, secret, 0o600)
}
