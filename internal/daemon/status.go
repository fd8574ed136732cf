package daemon

import (
	"fmt"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/build"
)

// statusEvery is how often a running step may change the status line.
const statusEvery = 3 * time.Second

// status tells the service manager in one line what is going on.
func (d *Daemon) status(e build.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.State == build.EventRunning && e.Time.Sub(d.statusAt) < statusEvery {
		return
	}
	d.statusAt = e.Time
	line := fmt.Sprintf("Building %s: %s", e.Name, e.Step)
	if e.Step == build.StepPublish {
		line = "Publishing " + e.Name
	}
	if e.Percent >= 0 {
		line += fmt.Sprintf(" %.0f %%", e.Percent)
	}
	counts := map[build.State]int{}
	for _, b := range d.builds {
		counts[b.State]++
	}
	parts := []string{line}
	for _, c := range []struct {
		state build.State
		word  string
	}{{build.Queued, "queued"}, {build.Done, "published"}, {build.Failed, "failed"}} {
		if counts[c.state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[c.state], c.word))
		}
	}
	notify("STATUS=" + strings.Join(parts, " · "))
}
