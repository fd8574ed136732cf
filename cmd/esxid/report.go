package main

import (
	"time"

	"github.com/esxid/esxid/internal/build"
)

// toProgress is a build's event in the printer's form.
func toProgress(e build.Event) progressEvent {
	return progressEvent{
		Time: e.Time, Build: e.Build, Name: e.Name, Step: e.Step, State: e.State,
		Percent: e.Percent, Done: e.Done, Total: e.Total, Message: e.Message, Seconds: e.Seconds,
	}
}

// reporter reports a step that runs outside a build.
type reporter struct {
	to    *printer
	step  string
	begun time.Time
}

func stepReporter(to *printer, step string) *reporter { return &reporter{to: to, step: step} }

func (r *reporter) started() {
	r.begun = time.Now()
	r.event(progressEvent{State: build.EventStarted, Percent: -1})
}

func (r *reporter) progress(done, total int64) {
	percent := -1.0
	if total > 0 {
		percent = 100 * float64(done) / float64(total)
	}
	r.event(progressEvent{State: build.EventRunning, Percent: percent, Done: done, Total: total})
}

func (r *reporter) ended(err error) {
	e := progressEvent{State: build.EventDone, Percent: 100}
	if err != nil {
		e = progressEvent{State: build.EventFailed, Percent: -1, Message: err.Error()}
	}
	e.Seconds = time.Since(r.begun).Seconds()
	r.event(e)
}

func (r *reporter) event(e progressEvent) {
	e.Time, e.Step = time.Now(), r.step
	r.to.Event(e)
}
