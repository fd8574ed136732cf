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
	d.notifyStatus(line)
}

// idle tells the service manager that nothing is running, if so.
func (d *Daemon) idle() {
	if len(d.running) == 0 {
		d.notifyStatus("Waiting for ISOs")
	}
}

// notifyStatus tells the service manager a line, with the number of builds in
// each state behind it.
func (d *Daemon) notifyStatus(line string) {
	counts := map[build.State]int{}
	for _, b := range d.builds {
		counts[b.State]++
	}
	parts := []string{line}
	for _, c := range []struct {
		state build.State
		word  string
	}{{build.Queued, "queued"}, {build.Built, "not published"}, {build.Done, "published"}, {build.Failed, "failed"}} {
		if counts[c.state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[c.state], c.word))
		}
	}
	d.line = strings.Join(parts, " · ")
	notify("STATUS=" + d.line)
}
