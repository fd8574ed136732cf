// Package build turns an identified installer ISO into a published image: it
// plans a build, keeps its record on disk, and runs its steps.
//
// A build is named by what goes into it (see Plan), lives in a directory of
// its own, and its steps are functions of that directory: a finished step is
// not run again, and an interrupted one is run again from its beginning.
// build.json in the directory is the only record of what is done.
package build

import (
	"fmt"
	"slices"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// State is where a build stands.
type State string

const (
	Queued   State = "queued"   // waits for its turn, or for its next try
	Building State = "building" // steps up to verify are running
	Built    State = "built"    // has a verified image, not yet on every target
	Done     State = "done"     // its image is on every target
	Failed   State = "failed"   // needs the operator
)

// next lists the states a build may go to from each state.
var next = map[State][]State{
	Queued:   {Building, Failed},
	Building: {Built, Queued, Failed},
	Built:    {Done, Queued, Failed},
	Done:     {Built, Queued},
	Failed:   {Queued},
}

// Step names, in their order.
const (
	StepKickstart = "kickstart"
	StepInstall   = "install"
	StepCustomize = "customize"
	StepPack      = "pack"
	StepVerify    = "verify"
	StepPublish   = "publish"
)

// Steps are all steps, in their order.
var Steps = []string{StepKickstart, StepInstall, StepCustomize, StepPack, StepVerify, StepPublish}

// Build is the record of one build, stored as build.json.
type Build struct {
	Format  int       `json:"format"`
	Plan    Plan      `json:"plan"`
	ISOFile string    `json:"iso_file"` // where the ISO is
	State   State     `json:"state"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`

	// Steps holds the finished steps.
	Steps map[string]StepRecord `json:"steps"`
	// Image describes the packed image once pack is done.
	Image *ImageRecord `json:"image,omitempty"`
	// Published holds what each target has, by target name.
	Published map[string]Publication `json:"published,omitempty"`
	// Error is the last failure; it is cleared when the build goes on.
	Error *ErrorRecord `json:"error,omitempty"`
	// Attempts counts failures since the last success, for the back-off.
	Attempts int `json:"attempts,omitempty"`
	// Job is the job that a unit was given and whose end is not known yet.
	Job *JobRecord `json:"job,omitempty"`
	// NotBefore is when the next try is due.
	NotBefore time.Time `json:"not_before,omitzero"`
}

// StepRecord is a finished step.
type StepRecord struct {
	Finished time.Time `json:"finished"`
	Seconds  float64   `json:"seconds"`
	Note     string    `json:"note,omitempty"` // what an operator may want to know about it
}

// ImageRecord is a packed image.
type ImageRecord struct {
	RawSize    int64  `json:"raw_size"`    // bytes a deployment writes
	DataSize   int64  `json:"data_size"`   // bytes of it that are not holes
	PackedSize int64  `json:"packed_size"` // bytes of the .dd.gz
	SHA256     string `json:"sha256"`      // of the .dd.gz
}

// Publication is what a target has of a build.
type Publication struct {
	Address  string    `json:"address"` // of the target
	SHA256   string    `json:"sha256"`
	Location string    `json:"location"`
	Finished time.Time `json:"finished"`
}

// ErrorRecord is why a build stopped.
type ErrorRecord struct {
	Step    string      `json:"step"`
	Message string      `json:"message"`
	Class   fault.Class `json:"class"`
	Time    time.Time   `json:"time"`
	// Cancelled says that somebody ended the build, who is named in Message. It
	// stays as it is until somebody asks for it again.
	Cancelled bool `json:"cancelled,omitempty"`
}

// Cancelled says whether somebody ended the build.
func (b *Build) Cancelled() bool { return b.State == Failed && b.Error != nil && b.Error.Cancelled }

// ID names the build and its directory.
func (b *Build) ID() string { return b.Plan.ID }

// done says whether a step is finished.
func (b *Build) done(step string) bool {
	_, ok := b.Steps[step]
	return ok
}

// To moves the build to another state; a move the table does not allow is a
// bug of the caller.
func (b *Build) To(s State, now time.Time) error {
	if b.State == s {
		return nil
	}
	if !slices.Contains(next[b.State], s) {
		return fmt.Errorf("build %s cannot go from %s to %s", b.ID(), b.State, s)
	}
	b.State, b.Changed = s, now.UTC().Truncate(time.Second)
	return nil
}

// forget drops the given step and all after it.
func (b *Build) forget(step string) {
	for _, s := range Steps[slices.Index(Steps, step):] {
		delete(b.Steps, s)
	}
	if !b.done(StepPack) {
		b.Image = nil
	}
}

// Discard forgets the image and what was done with it: the next Make packs the
// disk again.
func (b *Build) Discard() { b.forget(StepPack) }

// Restart forgets all that was done: the next Make installs anew.
// A job that is still under way is of no use any more.
func (b *Build) Restart() {
	b.forget(StepKickstart)
	if b.Job != nil {
		b.Job = &JobRecord{Step: b.Job.Step, Nonce: b.Job.Nonce} // for no plan: it is stopped before the next one
	}
}

// Event reports progress of a build to whoever shows it.
type Event struct {
	Time    time.Time
	Build   string  // build id
	Name    string  // boot resource name
	Step    string  // step name
	State   string  // started, running, done, failed, skipped
	Percent float64 // below 0: unknown
	Done    int64   // bytes
	Total   int64   // bytes; 0: unknown
	Message string
	Seconds float64 // of the finished step
}

// Event states.
const (
	EventStarted = "started"
	EventRunning = "running"
	EventDone    = "done"
	EventFailed  = "failed"
	EventSkipped = "skipped"
	EventWarning = "warning" // Message is what an operator should know; the step goes on
)
