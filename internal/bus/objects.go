package bus

import (
	"math"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
)

// object is what is exported at a path: its interfaces and the values of their
// properties.
type object struct {
	interfaces []string
	values     map[string]map[string]any // interface → property → value
}

// one is an object of one interface.
func one(name string, values map[string]any) object {
	return object{[]string{name}, map[string]map[string]any{name: values}}
}

// tree is all that is exported, by path.
type tree map[dbus.ObjectPath]object

// stepTime is a finished step as D-Bus has it: (sdts).
type stepTime struct {
	Step         string
	Seconds      float64
	FinishedUSec uint64
	Note         string
}

// errorPair is an error as D-Bus has it: (ss).
type errorPair struct{ Name, Message string }

// Results of a build that has ended.
const (
	resultSuccess   = "success"
	resultFailed    = "failed"
	resultCancelled = "cancelled"
)

// States of the service.
const (
	stateIdle       = "idle"
	stateBuilding   = "building"
	statePublishing = "publishing"
)

// newTree puts a snapshot on the bus.
func newTree(s build.Snapshot, version, dropDirectory string) tree {
	t := tree{}
	state, queue := stateIdle, uint32(0)
	imageOf := map[string]dbus.ObjectPath{}
	for _, i := range s.Images {
		imageOf[i.Build] = ImagePath(i.ID)
		t[ImagePath(i.ID)] = one(ImageInterface, imageValues(i))
	}
	for _, b := range s.Builds {
		if b.Queue > 0 {
			queue++
		}
		switch {
		case b.Build.State == build.Building:
			state = stateBuilding
		case b.Active != nil && state == stateIdle:
			state = statePublishing
		}
		t[BuildPath(b.Build.ID())] = one(BuildInterface, buildValues(b, imageOf[b.Build.ID()]))
	}
	manager := one(ManagerInterface, map[string]any{
		"Version": text(version), "DropDirectory": text(dropDirectory),
		"State": state, "Status": text(s.Line), "QueueLength": queue,
	})
	manager.interfaces = append(manager.interfaces, ObjectManager)
	t[Root] = manager
	return t
}

func buildValues(s build.Status, image dbus.ObjectPath) map[string]any {
	b, plan := s.Build, s.Build.Plan
	kickstart := []string{}
	for _, path := range plan.Kickstart {
		kickstart = append(kickstart, text(path))
	}
	if image == "" {
		image = "/" // there is no empty path
	}
	v := map[string]any{
		"Id": text(b.ID()), "Name": text(plan.Name), "Title": text(plan.Title), "Product": text(plan.ISO.Product), "Version": text(plan.ISO.Version),
		"BuildNumber": text(plan.ISO.Build), "Vendor": text(plan.ISO.Vendor), "Sha256": text(plan.ISO.SHA256), "Kickstart": kickstart,
		"State": string(b.State), "Current": s.Current, "QueuePosition": uint32(max(0, s.Queue)), "StepCount": uint32(len(build.Steps)),
		"StepTimes": stepTimes(b), "QueuedUSec": usec(b.Created), "StartedUSec": usec(began(s)), "FinishedUSec": uint64(0),
		"NextTryUSec": usec(b.NotBefore), "Attempts": uint32(max(0, b.Attempts)), "Result": result(b), "Error": errorPair{},
		"Image": image, "Published": published(b.Published),
		"Step": "", "StepIndex": uint32(0), "StepStartedUSec": uint64(0), "Progress": 0.0, "ProgressValid": false, "BytesDone": uint64(0), "BytesTotal": uint64(0),
		"Message": "", "ExpectedEndUSec": uint64(0),
	}
	if result(b) != "" {
		v["FinishedUSec"] = usec(b.Changed)
	}
	if b.Error != nil {
		v["Error"] = errorPair{errorName(b.Error.Class), text(b.Error.Message)}
	}
	if a := s.Active; a != nil {
		v["Step"], v["StepIndex"] = text(a.Step), uint32(slices.Index(build.Steps, a.Step)+1)
		v["StepStartedUSec"], v["Message"] = usec(a.Started), text(a.Message)
		v["BytesDone"], v["BytesTotal"] = uint64(max(0, a.Done)), uint64(max(0, a.Total))
		if a.Percent >= 0 && a.Percent <= 100 { // which NaN is not
			// A tenth is all anybody reads, and less is no change.
			v["Progress"], v["ProgressValid"] = math.Round(a.Percent*10)/10, true
		}
		if a.Left >= 0 {
			// In whole seconds, so that an estimate that holds is no change.
			v["ExpectedEndUSec"] = usec(a.At.Add(a.Left).Round(time.Second))
		}
	}
	return v
}

func imageValues(i build.Image) map[string]any {
	return map[string]any{
		"Id": text(i.ID), "Name": text(i.Plan.Name), "Title": text(i.Plan.Title), "Version": text(i.Plan.ISO.Version), "BuildNumber": text(i.Plan.ISO.Build),
		"Path": text(i.Path), "Build": BuildPath(i.Build), "Sha256": text(i.Record.SHA256),
		"PackedSize": uint64(max(0, i.Record.PackedSize)), "RawSize": uint64(max(0, i.Record.RawSize)), "DataSize": uint64(max(0, i.Record.DataSize)),
		"CreatedUSec": usec(i.Created), "Published": published(i.Published),
	}
}

// result says how a build ended, "" if it has not.
func result(b *build.Build) string {
	switch {
	case b.State == build.Done:
		return resultSuccess
	case b.Cancelled():
		return resultCancelled
	case b.State == build.Failed:
		return resultFailed
	}
	return ""
}

// stepTimes lists the finished steps in their order.
func stepTimes(b *build.Build) []stepTime {
	times := []stepTime{}
	for _, step := range build.Steps {
		if r, ok := b.Steps[step]; ok {
			times = append(times, stepTime{step, r.Seconds, usec(r.Finished), text(r.Note)})
		}
	}
	return times
}

// began is when the first step began.
func began(s build.Status) time.Time {
	for _, step := range build.Steps {
		if r, ok := s.Build.Steps[step]; ok {
			// The record's times are whole seconds: it did not begin before it was queued.
			began := r.Finished.Add(-time.Duration(r.Seconds * float64(time.Second)))
			return later(began, s.Build.Created)
		}
	}
	if s.Active != nil {
		return s.Active.Started
	}
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// published maps targets to where they have the image.
func published(p map[string]build.Publication) map[string]string {
	out := map[string]string{}
	for target, at := range p {
		out[text(target)] = text(at.Location)
	}
	return out
}

// usec is a time in microseconds since 1970, as all times on the bus are; 0 is none.
func usec(t time.Time) uint64 {
	if t.IsZero() || t.Unix() < 0 {
		return 0
	}
	return uint64(t.UnixMicro())
}

// noBuild is the error about a build that is not exported.
func noBuild(id string) error {
	return fault.New(fault.Usage, "there is no build %.100q: see esxid list", id)
}
