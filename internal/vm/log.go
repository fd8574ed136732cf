package vm

import (
	"regexp"
	"strings"
	"unicode"
)

// The phases of an installation, in order. They are recognised from the serial
// log and the disk's write counter; what is not recognised leaves the phase as
// it is, and no phase is entered twice.
type phase int

const (
	starting     phase = iota // QEMU is not running yet
	loading                   // firmware and boot loader read the modules
	booting                   // the VMkernel writes its log
	installing                // the installer has taken over
	postInstall               // %post scripts run
	poweringOff               // the marker was seen
	phaseOverall = poweringOff + 1
)

var phaseNames = [phaseOverall]string{"starting", "loading", "booting", "installing", "post", "powering off"}

func (p phase) String() string { return phaseNames[p] }

const (
	maxText     = 240 // bytes of one quoted line
	maxQuotes   = 4   // lines of an installer's error that are quoted
	installMark = 1 << 20
	// An error text is not what an installer stopped at if this much followed.
	// A Python traceback has some 30 lines.
	staleLines   = 60
	staleWritten = 16 << 20
)

var (
	// prefixForm is what the VMkernel puts before each line, like
	// "2015-12-17T20:34:03.603Z cpu3:47209)" or "TSC: 521832 cpu0:1)", with an
	// operation's id before the parenthesis now and then.
	prefixForm = regexp.MustCompile(`^.{0,120}?\bcpu\d{1,4}:\d{1,12}(?: opID=[^)]{0,64})?\)\s*`)
	escapeForm = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[()][0-9A-Za-z]|[@-Z\\\\-_=>78c])")

	bootingForm    = regexp.MustCompile(`(?i)relocating modules|starting up the kernel|starting vmkernel`)
	installingForm = regexp.MustCompile(`(?i)\bweasel\b|\bkickstart\b|installation script|\bpartitioning\b|\bformatting\b|\binstalling\b`)
	postForm       = regexp.MustCompile(`(?i)%post\b|\bpost-?install|\bpost-?script`)

	// failureForm matches what an installer is known to print when it gives up,
	// in the words of public bug reports: "error:" before a kickstart's fault,
	// the title of the error dialog, Python's last line of a traceback, and
	// single known causes. A VMkernel that crashes writes @BlueScreen, a Linux
	// kernel "Kernel panic"; "PANIC" has to stand alone and in capitals, as boot
	// options have the word in their names.
	failureForm = regexp.MustCompile(`(?:^|[\s)])error:|` +
		`(?i:error (?:has )?occurred)|` +
		`\b[A-Z]\w*(?:Error|Exception):(?:\s|$)|\bHandledError\b|` +
		`(?i:no network adapters)|` +
		`(?i:cannot find kickstart file)|` +
		`(?i:does not support osdata)|` +
		`@BlueScreen|(?i:kernel panic)|\bPANIC\b|\bException \d+ in world\b`)
)

// installerLog follows the lines of the serial log.
type installerLog struct {
	marker string

	phase      phase
	markerSeen bool
	last       string // the last line with any text, readable

	// The error the installer may have stopped at; empty if there is none.
	failure        []string
	failureWritten int64 // disk counter when its first line came
	sinceFailure   int   // lines since then
	written        int64
}

// line takes the next line, without passwords but otherwise as it came.
func (l *installerLog) line(raw []byte) {
	text := readable(raw)
	if text == "" {
		return
	}
	body := text
	if prefix := prefixForm.FindString(text); prefix != "" {
		l.enter(booting)
		body = text[len(prefix):]
	}
	switch {
	case containsToken(body, l.marker):
		l.markerSeen = true
		l.enter(poweringOff)
	case bootingForm.MatchString(body):
		l.enter(booting)
	case postForm.MatchString(body) && l.written >= installMark:
		// The installer logs the kickstart while it parses it, long before it
		// writes to the disk: "%post" means nothing then.
		l.enter(postInstall)
	case installingForm.MatchString(body):
		l.enter(installing)
	}
	if body = bounded(body); body == "" {
		return
	}
	l.last = body
	l.watchFailure(body)
}

func (l *installerLog) watchFailure(body string) {
	matches := failureForm.MatchString(body)
	switch {
	case matches && len(l.failure) == 0:
		l.failure = []string{body}
		l.failureWritten, l.sinceFailure = l.written, 0
	case matches && len(l.failure) < maxQuotes:
		l.failure = append(l.failure, body)
	case matches:
		l.failure[maxQuotes-1] = body
	}
	if l.sinceFailure++; l.sinceFailure > staleLines {
		l.failure = nil
	}
}

// disk takes the number of bytes the guest has written to its disk.
func (l *installerLog) disk(written int64) {
	l.written = written
	if written >= installMark {
		l.enter(installing)
	}
	if written-l.failureWritten > staleWritten {
		l.failure = nil
	}
}

func (l *installerLog) enter(p phase) { l.phase = max(l.phase, p) }

// stopped tells whether the installer printed an error that nothing followed
// which looks like an installation going on.
func (l *installerLog) stopped() bool { return len(l.failure) > 0 }

// words quotes the installer: its error, else the last thing it said.
func (l *installerLog) words() string {
	if l.stopped() {
		return strings.Join(l.failure, "; ")
	}
	return l.last
}

// readable returns a line as text: without escape sequences, control and
// invisible characters, in valid UTF-8, trimmed.
func readable(raw []byte) string {
	text := strings.ToValidUTF8(escapeForm.ReplaceAllString(string(raw), ""), "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text))
}

// bounded cuts text to what is shown of a line.
func bounded(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// containsToken tells whether token stands in text with no character beside it
// that could be part of it.
func containsToken(text, token string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], token)
		if i < 0 {
			return false
		}
		begin, end := from+i, from+i+len(token)
		if (begin == 0 || !isTokenByte(text[begin-1])) && (end == len(text) || !isTokenByte(text[end])) {
			return true
		}
		from = end
	}
}

func isTokenByte(c byte) bool {
	return c == '-' || c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
