package main

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
)

// progressView is what is shown of one step.
type progressView struct {
	step    string
	begun   time.Time
	now     time.Time
	percent float64 // -1: unknown
	done    int64
	total   int64
	message string
	bytes   speed // bytes a second
	parts   speed // percent a second, for steps that count no bytes
}

func newProgressView(e progressEvent) *progressView {
	return &progressView{step: e.Step, begun: e.Time, percent: -1}
}

// update takes in an event.
func (v *progressView) update(e progressEvent) {
	v.now, v.done, v.total, v.percent = e.Time, max(0, e.Done), max(0, e.Total), -1
	if e.Message != "" {
		v.message = e.Message
	}
	switch {
	case e.Percent >= 0: // which NaN is not
		v.percent = min(e.Percent, 100)
	case v.total > 0:
		v.percent = min(100, 100*float64(v.done)/float64(v.total))
	}
	v.bytes.add(e.Time, float64(v.done))
	if v.percent >= 0 {
		v.parts.add(e.Time, v.percent)
	}
}

// left estimates the time the step still needs; ok is false if that cannot be
// told, or is too long to mean anything.
func (v *progressView) left() (left time.Duration, ok bool) {
	var seconds float64
	switch {
	case v.total > 0 && v.bytes.known() && v.total >= v.done:
		seconds = float64(v.total-v.done) / v.bytes.rate
	case v.percent >= 0 && v.parts.known():
		seconds = (100 - v.percent) / v.parts.rate
	default:
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), seconds < 100*3600
}

// figures are the numbers about the running step, the most important one first.
func (v *progressView) figures() []string {
	var f []string
	if v.percent >= 0 {
		f = append(f, fmt.Sprintf("%3.0f%%", math.Floor(v.percent)))
	}
	if left, ok := v.left(); ok {
		f = append(f, formatClock(left)+" left")
	} else if spent := v.now.Sub(v.begun); spent >= time.Second {
		f = append(f, formatClock(spent)+" so far")
	}
	if v.bytes.known() {
		f = append(f, formatBytes(v.bytes.rate)+"/s")
	}
	switch {
	case v.total > 0:
		f = append(f, formatBytes(float64(v.done))+" of "+formatBytes(float64(v.total)))
	case v.done > 0:
		f = append(f, formatBytes(float64(v.done)))
	}
	return f
}

// stepColumn is the width that steps' names are padded to.
const stepColumn = 10

// live is the step as one line of fewer than width columns: name, bar, as many
// figures as there is room for, and of the message what still fits. The bar's
// size depends on the width alone, so that it does not jump about.
func (v *progressView) live(width int) string {
	const minBar, maxBar, besidesBar, minMessage = 10, 30, 65, 15
	line := fmt.Sprintf("%-*s", stepColumn, clip(progressText(v.step), stepColumn))
	room := max(20, width) - 1 - stepColumn // the last column would wrap on some terminals
	if size := min(maxBar, width-besidesBar); v.percent >= 0 && size >= minBar {
		line += "  " + bar(v.percent, size)
		room -= size + 4
	}
	for _, f := range v.figures() {
		if need := 2 + len(f); need <= room {
			line += "  " + f
			room -= need
		}
	}
	if text := progressText(v.message); text != "" && room >= minMessage+2 {
		line += "  " + clip(text, room-2)
	}
	return line
}

// maxText bounds the columns of a message in a line that may wrap.
const maxText = 300

// plain is the running step as a line of a log.
func (v *progressView) plain() string {
	line := progressText(v.step) + ": " + strings.TrimSpace(strings.Join(v.figures(), ", "))
	if v.message != "" {
		line += ": " + clip(progressText(v.message), maxText)
	}
	return line
}

// progressOutcome says how and when a step ended.
func progressOutcome(e progressEvent) string {
	text := progressText(e.State)
	switch {
	case math.IsNaN(e.Seconds) || e.Seconds <= 0:
	case e.State == "done":
		text += " in " + formatDuration(seconds(e.Seconds))
	case e.State == "failed":
		text += " after " + formatDuration(seconds(e.Seconds))
	}
	if e.Message != "" {
		text += ": " + clip(progressText(e.Message), maxText)
	}
	return text
}

func bar(percent float64, size int) string {
	full := min(size, int(percent/100*float64(size)))
	head := ""
	if full < size {
		head = ">"
	}
	return "[" + strings.Repeat("=", full) + head + strings.Repeat(" ", size-full-len(head)) + "]"
}

// speed is how fast a number grows, smoothed: a change counts for about
// smoothing seconds.
type speed struct {
	begun, at time.Time
	value     float64
	rate      float64 // a second
}

const (
	smoothing = 5.0
	// minSample: events nearer to each other than this are taken together.
	minSample = 200 * time.Millisecond
	// minSpan is how long to look before saying anything.
	minSpan = time.Second
)

func (s *speed) add(now time.Time, value float64) {
	elapsed := now.Sub(s.at)
	switch {
	case s.at.IsZero(), elapsed < 0, value < s.value:
		// The first one, a step that started over, or a clock that was set back.
		*s = speed{begun: now, at: now, value: value}
		return
	case elapsed < minSample:
		return
	}
	current := (value - s.value) / elapsed.Seconds()
	// The first samples are weighed as in a plain average.
	weight := max(1-math.Exp(-elapsed.Seconds()/smoothing), elapsed.Seconds()/now.Sub(s.begun).Seconds())
	s.rate += weight * (current - s.rate)
	s.at, s.value = now, value
}

// known says whether there is a rate to speak of.
func (s *speed) known() bool {
	return s.at.Sub(s.begun) >= minSpan && s.rate > 1e-3
}

// progressText makes text fit for one line of a terminal: blanks for white
// space, escapes for what is not printable.
func progressText(s string) string {
	var out strings.Builder
	for i, field := range strings.Fields(s) {
		if i > 0 {
			out.WriteByte(' ')
		}
		for _, r := range field {
			switch {
			case unicode.IsPrint(r):
				out.WriteRune(r)
			case r < 0x100:
				fmt.Fprintf(&out, `\x%02x`, r)
			default:
				fmt.Fprintf(&out, `\u%04x`, r)
			}
		}
	}
	return out.String()
}

// clip cuts text that needs more columns than there are. Characters outside
// ASCII are counted as two columns, since some are that wide.
func clip(s string, columns int) string {
	used, cut := 0, 0
	for i, r := range s {
		if r < 0x80 {
			used++
		} else {
			used += 2
		}
		if used > columns {
			return s[:cut] + "..."
		}
		if used <= columns-3 {
			cut = i + len(string(r))
		}
	}
	return s
}

// formatDuration writes 0.4s, 12s, 5m07s, 2h03m.
func formatDuration(d time.Duration) string {
	if d < 9950*time.Millisecond {
		return fmt.Sprintf("%.1fs", max(0, d).Seconds())
	}
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// formatClock writes 0:07, 5:07, 2:03:00.
func formatClock(d time.Duration) string {
	s := int64(max(0, d).Round(time.Second) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// seconds is a number of seconds as a duration, as far as one can be that long.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e9) * float64(time.Second))
}

// formatBytes writes 512 B, 1.5 MiB, 380 GiB.
func formatBytes(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	unit := 0
	for n >= 1023.5 && unit < len(units)-1 {
		n /= 1024
		unit++
	}
	if unit == 0 || n >= 99.95 {
		return fmt.Sprintf("%.0f %s", n, units[unit])
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}
