package build

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A unit tells how its job goes in one line for people (sd_notify's STATUS=, the
// StatusText of the unit), from which the service reads the numbers again:
//
//	62 %, 345 MiB written: installing: Installing image profile
//
// What is not known is left out. A warning has a line of its own, once:
//
//	warning: cannot use KVM: there is no /dev/kvm

// warningPrefix begins the line of a warning.
const warningPrefix = "warning: "

// formatProgress is the line of an event.
func formatProgress(e Event) string {
	var numbers []string
	if e.Percent >= 0 {
		numbers = append(numbers, fmt.Sprintf("%.0f %%", e.Percent))
	}
	if e.Done > 0 {
		numbers = append(numbers, fmt.Sprintf("%d MiB written", e.Done>>20))
	}
	message := strings.ToValidUTF8(e.Message, "?") // systemd drops what is not
	if len(numbers) == 0 {
		return message
	}
	return strings.Join(numbers, ", ") + ": " + message
}

var progressForm = regexp.MustCompile(`^(?:(\d{1,3}) %(?:, |: ))?(?:(\d{1,9}) MiB written: )?(.*)$`)

// parseProgress reads the line of formatProgress. A line of another form is all
// message.
func parseProgress(line string) Event {
	e := Event{State: EventRunning, Percent: -1, Message: line}
	m := progressForm.FindStringSubmatch(line)
	if m == nil {
		return e
	}
	if percent, err := strconv.ParseFloat(m[1], 64); err == nil && percent <= 100 {
		e.Percent = percent
	}
	if mib, err := strconv.ParseInt(m[2], 10, 64); err == nil {
		e.Done = mib << 20
	}
	e.Message = m[3]
	return e
}

// lines shows lines that change, at most one per second: of faster ones systemd may
// pass on only the last.
type lines struct {
	out  func(string)
	last string
	at   time.Time
}

func newLines(out func(string)) *lines { return &lines{out: out} }

func (l *lines) show(line string) {
	if line != l.last && time.Since(l.at) >= time.Second {
		l.showNow(line)
	}
}

// showNow shows a line without waiting.
func (l *lines) showNow(line string) {
	l.last, l.at = line, time.Now()
	if l.out != nil {
		l.out(line)
	}
}
