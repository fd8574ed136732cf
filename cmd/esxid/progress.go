package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progressEvent is one thing that happened to a step of a build.
type progressEvent struct {
	Time    time.Time // the clock of rates and redraws; zero: now
	Build   string    // build id, empty outside a build
	Name    string    // boot resource name
	Step    string
	State   string  // "started", "running", "done", "failed", "skipped"
	Percent float64 // below 0 or NaN: unknown
	Done    int64   // bytes
	Total   int64   // bytes; 0: unknown
	Message string  // may quote an installer or a server: not trusted
	Seconds float64 // how long the finished step took
}

// printMode says how a printer prints.
type printMode int

const (
	printPlain printMode = iota // lines, for logs and pipes
	printBar                    // one line redrawn in place, on a terminal
	printJSON                   // one JSON object a line
)

// printModeFor picks the mode for what w is. NO_COLOR (no-color.org) and
// TERM=dumb ask for no escape codes.
func printModeFor(w io.Writer, asJSON bool) printMode {
	if asJSON {
		return printJSON
	}
	_, isTerminal := terminalWidth(w)
	if !isTerminal || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return printPlain
	}
	return printBar
}

// terminalWidth returns the columns of the terminal w, if it is one.
func terminalWidth(w io.Writer) (int, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, true
}

const (
	// minRedraw is the least time between two reports of a running step, on a
	// terminal and in JSON.
	minRedraw = 100 * time.Millisecond
	// Plain lines about a running step come with every tenth of it that is
	// done, unless that is too often, and now and then without.
	plainAtMost  = time.Second
	plainAtLeast = 10 * time.Second
)

// printer prints the events of a build as they come. It may be used by several
// goroutines. A failure to write ends the printing and nothing else: a build is
// not lost because nobody watches it.
type printer struct {
	mu     sync.Mutex
	w      io.Writer
	mode   printMode
	width  func() int // asked at each redraw, so that a resized terminal is followed
	failed bool       // a write failed, or Close was called

	build string        // the build of the last event
	view  *progressView // the step that runs, or nil
	drawn bool          // the terminal's line shows view
	last  time.Time     // of the last report about the running step
	tenth int           // the last tenth that was reported
}

func newPrinter(w io.Writer, mode printMode) *printer {
	width := func() int {
		n, _ := terminalWidth(w)
		return n
	}
	return &printer{w: w, mode: mode, width: width}
}

// Event prints an event, or leaves it out if the last one is too recent.
func (p *printer) Event(e progressEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.State == "started" || p.view == nil || p.view.step != e.Step {
		p.view, p.last, p.tenth = newProgressView(e), time.Time{}, 0
	}
	p.view.update(e)
	if p.mode == printJSON {
		p.json(e)
	} else {
		p.text(e)
	}
	if e.State != "started" && e.State != "running" {
		p.view = nil
	}
}

// Note prints a line that is not about a step, such as a warning.
func (p *printer) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == printJSON {
		p.writeJSON(jsonNote{Time: time.Now().UTC(), State: "note", Message: text})
		return
	}
	redraw := p.drawn
	p.line(progressText(text))
	if redraw {
		p.draw()
	}
}

// Close ends the output. A step that is still running keeps its last line, so
// that one sees where it was. Events that come later are dropped.
func (p *printer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		p.write("\n")
	}
	p.drawn, p.failed = false, true
}

// text prints an event as plain lines, or on a terminal.
func (p *printer) text(e progressEvent) {
	if e.Build != "" && e.Build != p.build {
		p.build = e.Build
		p.line(progressText(fmt.Sprintf("building %s (%s)", e.Name, e.Build)))
	}
	switch {
	case e.State == "done", e.State == "skipped":
		p.line(p.head(e) + progressOutcome(e))
	case e.State == "failed":
		// Whoever gets the error prints it; once is enough.
		e.Message = ""
		p.line(p.head(e) + progressOutcome(e))
	case p.mode == printBar:
		if e.State == "started" || p.due(e.Time, minRedraw) {
			p.draw()
		}
	case e.State == "started":
		p.last = e.Time
		p.line(p.head(e) + "started")
	default:
		tenth := int(p.view.percent / 10)
		if tenth > p.tenth && p.due(e.Time, plainAtMost) || p.due(e.Time, plainAtLeast) {
			p.tenth = tenth
			p.line(p.view.plain())
		}
	}
}

// head is the beginning of a line about a step: in columns where these lines
// stand below each other, and for grep elsewhere.
func (p *printer) head(e progressEvent) string {
	if p.mode == printBar {
		return fmt.Sprintf("%-*s  ", stepColumn, progressText(e.Step))
	}
	return progressText(e.Step) + ": "
}

// due says whether the last report about the running step is old enough, and
// if so, that there is one now. A clock that went backwards does not silence it.
func (p *printer) due(now time.Time, interval time.Duration) bool {
	if since := now.Sub(p.last); since >= 0 && since < interval {
		return false
	}
	p.last = now
	return true
}

// line prints a line that stays. On a terminal it takes the place of the live
// line.
func (p *printer) line(text string) {
	if p.drawn {
		p.write("\r\x1b[K")
	}
	p.write(text + "\n")
	p.drawn = false
}

// draw shows the running step on the terminal's last line.
func (p *printer) draw() {
	p.write("\r\x1b[K" + p.view.live(p.width()))
	p.drawn = true
}

func (p *printer) write(s string) {
	if p.failed {
		return
	}
	if _, err := io.WriteString(p.w, s); err != nil {
		p.failed = true
	}
}

// jsonEvent is an event as --json prints it. The fields are always there.
type jsonEvent struct {
	Time    time.Time `json:"time"`
	Build   string    `json:"build"` // "" before it is known
	Name    string    `json:"name"`
	Step    string    `json:"step"`
	State   string    `json:"state"`
	Percent *float64  `json:"percent"` // null: unknown
	Done    int64     `json:"done"`    // bytes
	Total   int64     `json:"total"`   // bytes; 0: unknown
	Message string    `json:"message"`
	Seconds *float64  `json:"seconds"` // null while the step runs
}

// jsonNote is a note as --json prints it; State is "note".
type jsonNote struct {
	Time    time.Time `json:"time"`
	State   string    `json:"state"`
	Message string    `json:"message"`
}

func (p *printer) json(e progressEvent) {
	if e.State == "running" && !p.due(e.Time, minRedraw) {
		return
	}
	j := jsonEvent{
		Time: e.Time.UTC(), Build: e.Build, Name: e.Name, Step: e.Step, State: e.State,
		Done: p.view.done, Total: p.view.total, Message: e.Message,
	}
	if p.view.percent >= 0 {
		percent := math.Round(p.view.percent*10) / 10
		j.Percent = &percent
	}
	if (e.State == "done" || e.State == "failed") && e.Seconds >= 0 && !math.IsInf(e.Seconds, 0) {
		seconds := math.Round(e.Seconds*1000) / 1000
		j.Seconds = &seconds
	}
	p.writeJSON(j)
}

func (p *printer) writeJSON(j any) {
	b, err := json.Marshal(j)
	if err != nil {
		p.failed = true // a year beyond 9999 in Time: nothing that happens
		return
	}
	p.write(escapeC1(string(b)) + "\n")
}

// escapeC1 escapes the control characters that JSON allows in a string but
// that terminals act upon: DEL and U+0080 to U+009F.
func escapeC1(s string) string {
	if !strings.ContainsFunc(s, isC1) {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if isC1(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

func isC1(r rune) bool { return r >= 0x7f && r <= 0x9f }
