package daemon

import (
	"time"

	"github.com/esxid/esxid/internal/build"
)

// live is what may be seen of a build while its record belongs to its worker.
// Daemon.mu guards it.
type live struct {
	record   *build.Build // a copy of when the last step began or ended
	event    build.Event  // the last one; its Step is empty before the first
	started  time.Time    // of the step
	counts   time.Time    // since when the step counts: a publication begins anew with each target
	times    build.Times
	by       string        // who cancelled it, or ""
	underWay string        // the step whose unit ran already when the service started, until it is followed
	done     chan struct{} // closed when the worker has given the build back
}

// newLive is called while b still belongs to the caller.
func (d *Daemon) newLive(b *build.Build) *live {
	var all []*build.Build
	for _, o := range d.builds {
		all = append(all, d.visible(o))
	}
	return &live{record: b.Clone(), times: build.TimesFor(b, all), done: make(chan struct{})}
}

// visible returns a record that may be read: the build's own, or the last copy if
// a worker has it.
func (d *Daemon) visible(b *build.Build) *build.Build {
	if l := d.live[b.ID()]; l != nil {
		return l.record
	}
	return b
}

// observe takes in an event of a running build. Those about the beginning and the end of a
// step come from the worker itself, so its record can be copied then.
func (d *Daemon) observe(e build.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, b := d.live[e.Build], d.builds[e.Build]
	if l == nil || b == nil {
		return
	}
	if e.State == build.EventStarted {
		l.started = e.Time
		if b.Job != nil && b.Job.Step == e.Step && !b.Job.Started.IsZero() {
			l.started = b.Job.Started // in a unit that has outlived an earlier esxid
		}
		l.counts = l.started
	} else if e.Done < l.event.Done {
		l.counts = e.Time
	}
	if e.State != build.EventRunning {
		l.record = b.Clone()
	}
	l.event = e
	d.announce()
}

// begins says whether a step begins now, and did not begin under an earlier esxid.
func (d *Daemon) begins(e build.Event) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.live[e.Build]
	if l == nil || l.underWay != e.Step {
		return true
	}
	l.underWay = ""
	return false
}

// active says what the build is doing, if it is doing something.
func (l *live) active() *build.Active {
	e := l.event
	if e.State != build.EventStarted && e.State != build.EventRunning {
		return nil
	}
	left, known := l.times.BuildLeft(e, l.counts)
	if !known {
		left = -1
	}
	return &build.Active{
		Step: e.Step, Percent: e.Percent, Done: e.Done, Total: e.Total, Message: e.Message,
		Started: l.started, Left: left, At: e.Time,
	}
}

// announce says that a Snapshot would be another one now.
func (d *Daemon) announce() { wake(d.changed) }
