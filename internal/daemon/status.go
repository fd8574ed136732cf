package daemon

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/build"
)

// statusEvery is how often a running step may change the status line.
const statusEvery = 3 * time.Second

// maxLine bounds the status line, in bytes: of a longer message the service manager
// would take nothing (it reads 4096).
const maxLine = 3000

// status brings the status line up to date with what a step has done.
func (d *Daemon) status(e build.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e.State {
	case build.EventDone, build.EventSkipped:
		return // the next step begins at once
	case build.EventRunning:
		if e.Time.Sub(d.statusAt) < statusEvery {
			return
		}
	}
	d.statusAt = e.Time
	d.refresh()
}

// refresh tells the service manager what is going on, if that is something else than
// before. The caller holds d.mu.
func (d *Daemon) refresh() {
	line := brief(d.compose(), maxLine)
	if line == d.line {
		return
	}
	d.line = line
	if !d.stopping.Load() {
		notify("STATUS=" + line)
	}
	d.announce()
}

// compose makes the status line: what an operator must see to, what is being done,
// and how many builds there are in each state.
func (d *Daemon) compose() string {
	parts := d.troubleLines()
	busy := d.activities()
	switch {
	case len(busy) > 0:
	case len(d.settings().targets) == 0:
		busy = []string{"No target is configured: images stay in " + d.store.Images, "Waiting for ISOs"}
	default:
		busy = []string{"Waiting for ISOs"}
	}
	parts = append(parts, busy...)
	done := "published"
	if len(d.settings().targets) == 0 {
		done = "built"
	}
	counts := map[build.State]int{}
	for _, b := range d.builds {
		if !d.isRunning(b) {
			counts[b.State]++
		}
	}
	for _, c := range []struct {
		state build.State
		word  string
	}{{build.Queued, "queued"}, {build.Built, "not published"}, {build.Done, done}, {build.Failed, "failed"}} {
		if counts[c.state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[c.state], c.word))
		}
	}
	return strings.Join(parts, " · ")
}

// activities says what is being done with each build that somebody works on.
func (d *Daemon) activities() []string {
	var out []string
	for id := range d.running {
		if b := d.builds[id]; b != nil {
			out = append(out, activity(b, d.live[id]))
		}
	}
	slices.Sort(out)
	return out
}

func activity(b *build.Build, l *live) string {
	a := l.active()
	if a == nil {
		return fmt.Sprintf("Preparing %s (%s)", b.Plan.Name, b.Plan.ISO.Build)
	}
	text := fmt.Sprintf("Building %s (%s): %s", b.Plan.Name, b.Plan.ISO.Build, a.Step)
	if a.Step == build.StepPublish {
		text = fmt.Sprintf("Publishing %s (%s)", b.Plan.Name, b.Plan.ISO.Build)
		if a.Message != "" {
			text += " to " + a.Message
		}
	}
	var how []string
	if a.Percent >= 0 {
		how = append(how, fmt.Sprintf("%.0f %%", math.Floor(a.Percent)))
	}
	if a.Left > 0 {
		how = append(how, left(a.Left))
	}
	switch {
	case len(how) == 0:
		return text
	case a.Step == build.StepPublish:
		text += ":"
	}
	return text + " " + strings.Join(how, ", ")
}

// left is a time as coarse as the estimate is.
func left(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than 1 min left"
	case d < time.Hour:
		return fmt.Sprintf("%.0f min left", math.Ceil(d.Minutes()))
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %d min left", d/time.Hour, d%time.Hour/time.Minute)
}
