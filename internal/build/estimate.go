package build

import (
	"slices"
	"time"
)

// Times are what a step took in earlier builds: the basis of an estimate. A step
// that no other build has finished is not in it.
type Times map[string]time.Duration

// maxSamples bounds how many earlier builds an estimate looks at: a host that got
// faster disks should not be judged by what it was.
const maxSamples = 5

// TimesFor returns how long each step took in the last builds that are like b: of
// the same hardware profile, or of any if there is none. Of several it is the median, so that
// one build that ran beside a backup does not count.
func TimesFor(b *Build, builds []*Build) Times {
	t := Times{}
	for _, step := range Steps {
		like := samples(step, b, builds, func(o *Build) bool { return o.Plan.Profile.Version == b.Plan.Profile.Version })
		if len(like) == 0 {
			like = samples(step, b, builds, func(*Build) bool { return true })
		}
		if len(like) > 0 {
			slices.Sort(like)
			t[step] = like[len(like)/2]
		}
	}
	return t
}

// samples returns how long a step took in the last builds other than b that match.
func samples(step string, b *Build, builds []*Build, match func(*Build) bool) []time.Duration {
	var records []StepRecord
	for _, o := range builds {
		// An older esxid, or a record made by hand, may have no time in it.
		if r, ok := o.Steps[step]; ok && r.Seconds > 0 && o.ID() != b.ID() && match(o) {
			records = append(records, r)
		}
	}
	slices.SortStableFunc(records, func(x, y StepRecord) int { return y.Finished.Compare(x.Finished) })
	var took []time.Duration
	for _, r := range records[:min(len(records), maxSamples)] {
		took = append(took, time.Duration(r.Seconds*float64(time.Second)))
	}
	return took
}

// What a rate must stand on before it is believed.
const (
	minElapsed = 3 * time.Second
	minShare   = 0.02
)

// Left estimates how long the step of a running event still takes. started is when
// the step began to count what the event counts. It says false rather than guess:
// when there is no earlier build to go by, or this one already takes longer.
//
// A step that knows how many bytes there are goes by its own rate. The percentage
// of an installation does not grow evenly, so that one goes by the earlier builds.
func (t Times) Left(e Event, started time.Time) (time.Duration, bool) {
	elapsed := e.Time.Sub(started)
	if elapsed < 0 { // the clock was set back
		return 0, false
	}
	if e.Total > 0 && e.Done <= e.Total && elapsed >= minElapsed {
		if share := float64(e.Done) / float64(e.Total); share >= minShare {
			return time.Duration(float64(elapsed) * (1 - share) / share), true
		}
	}
	took, ok := t[e.Step]
	return took - elapsed, ok && took > elapsed
}

// BuildLeft estimates how long a build still takes to its end: the running step, and
// the steps behind it as long as they took before.
func (t Times) BuildLeft(e Event, started time.Time) (time.Duration, bool) {
	left, ok := t.Left(e, started)
	at := slices.Index(Steps, e.Step)
	if !ok || at < 0 {
		return 0, false
	}
	for _, step := range Steps[at+1:] {
		took, ok := t[step]
		if !ok {
			return 0, false
		}
		left += took
	}
	return left, true
}
