package daemon

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/journal"
)

// What an operator may have to see to, in the order in which the status line says
// it. Troubles with targets are named "target NAME" and come behind these.
const (
	troubleConfig     = "configuration"
	troubleIncoming   = "incoming"
	troubleKickstarts = "kickstarts"
	troubleDisk       = "disk"
	troubleRecords    = "records"
	troublePlan       = "plan"
)

var troubleOrder = []string{troubleConfig, troubleIncoming, troubleKickstarts, troubleDisk, troubleRecords, troublePlan}

// maxTrouble bounds one trouble in the status line, in bytes; the journal has the
// whole text. The service manager takes 4096 in all.
const maxTrouble = 300

// trouble notes something an operator has to see to or, with an empty text, that it
// is over, and says whether that is news. The caller holds d.mu.
func (d *Daemon) trouble(what, text string) (news bool) {
	text = brief(text, maxTrouble)
	if d.troubles[what] == text {
		return false
	}
	if text == "" {
		delete(d.troubles, what)
	} else {
		d.troubles[what] = text
	}
	d.refresh()
	return true
}

// troubleLines returns the troubles there are, the most urgent first.
func (d *Daemon) troubleLines() []string {
	var lines []string
	for _, what := range troubleOrder {
		if text := d.troubles[what]; text != "" {
			lines = append(lines, text)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(d.troubles)) {
		if !slices.Contains(troubleOrder, what) {
			lines = append(lines, d.troubles[what])
		}
	}
	// The file is there until the operator has seen to it.
	if d.lastRejected != "" {
		if _, err := os.Lstat(d.lastRejected); err == nil {
			lines = append(lines, "Rejected "+brief(filepath.Base(d.lastRejected), maxTrouble)+", see the .reason file in "+d.rejected())
		}
	}
	return lines
}

// brief is a text on one line, cut to a length in bytes.
func brief(s string, most int) string {
	s = readable(strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " "))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// checkSpace warns when there may be too little space for the work that is about to
// begin. Nothing polls: this is called when work begins, and at a reload.
func (d *Daemon) checkSpace() {
	free, err := d.freeSpace(d.stateDir())
	if err != nil {
		d.log.Warn("The free space cannot be found out: "+err.Error()+".", "error", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	low := d.troubles[troubleDisk] != ""
	if free >= build.WantSpace {
		if d.trouble(troubleDisk, "") {
			d.log.Info("There is enough disk space again.", "directory", d.stateDir(), "free_gib", free>>30)
		}
		return
	}
	text := fmt.Sprintf("Disk space is low: %.1f GiB are free for %s and a build may need %d", float64(free)/(1<<30), d.stateDir(), int64(build.WantSpace>>30))
	if d.trouble(troubleDisk, text); !low {
		d.log.Warn(text+".", journal.DiskLow.Attr(),
			"directory", d.stateDir(), "free_gib", free>>30, "want_gib", int64(build.WantSpace>>30))
	}
}
