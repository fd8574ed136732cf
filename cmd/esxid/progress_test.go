package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s\nwant:\n%s", path, got, want)
	}
}

// script plays a whole build with a printer, on its own clock.
func script(p *printer) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	event := func(after time.Duration, e progressEvent) {
		now = now.Add(after)
		e.Time = now
		if e.Step != "identify" {
			e.Build, e.Name = "3f2a9c", "esxi/8.0"
		}
		p.Event(e)
	}
	const mib = 1 << 20
	event(0, progressEvent{Step: "identify", State: "started", Percent: -1})
	for done := int64(0); done <= 600*mib; done += 60 * mib {
		event(250*time.Millisecond, progressEvent{Step: "identify", State: "running", Percent: float64(done) / (6 * mib), Done: done, Total: 600 * mib})
	}
	event(0, progressEvent{Step: "identify", State: "done", Percent: 100, Seconds: 2.75})
	p.Note("warning: the ISO was made by\nsomebody else")
	event(0, progressEvent{Step: "kickstart", State: "skipped", Percent: 100, Message: "already done"})

	event(0, progressEvent{Step: "install", State: "started", Percent: -1})
	event(3*time.Second, progressEvent{Step: "install", State: "running", Percent: -1, Message: "booting the installer"})
	p.Note("warning: no KVM")
	for i := range 8 {
		event(15*time.Second, progressEvent{Step: "install", State: "running", Percent: 11 * float64(i), Done: int64(i) * 50 * mib,
			Message: "installing \x1b[31mesx-base\x07 in a line that is too long for most terminals there are"})
	}
	event(10*time.Second, progressEvent{Step: "install", State: "done", Percent: 100, Seconds: 133.25})

	event(0, progressEvent{Step: "pack", State: "started", Percent: -1})
	for i := range 40 {
		event(20*time.Millisecond, progressEvent{Step: "pack", State: "running", Percent: float64(i), Done: int64(i) * 10 * mib, Total: 1000 * mib})
	}
	event(0, progressEvent{Step: "pack", State: "failed", Percent: -1, Seconds: 0.8, Message: "cannot write image.dd.gz: no space left on device"})
	p.Close()
	event(0, progressEvent{Step: "late", State: "done"})
	p.Close()
}

func TestPrinterGolden(t *testing.T) {
	for name, mode := range map[string]printMode{"plain": printPlain, "json": printJSON} {
		var out bytes.Buffer
		p := newPrinter(&out, mode)
		script(p)
		got := out.String()
		if mode == printJSON {
			// A note has the real time.
			lines := strings.SplitAfter(got, "\n")
			for i, line := range lines {
				if _, rest, ok := strings.Cut(line, `,"state":"note"`); ok {
					lines[i] = `{"time":"NOW","state":"note"` + rest
				}
			}
			got = strings.Join(lines, "")
		}
		golden(t, "progress_"+name+".golden", got)
	}
	for _, width := range []int{40, 80, 160} {
		var out bytes.Buffer
		p := newPrinter(&out, printBar)
		p.width = func() int { return width }
		script(p)
		golden(t, fmt.Sprintf("progress_bar_%d.golden", width), strings.ReplaceAll(out.String(), "\r\x1b[K", "\n<redraw> ")+"<end>\n")
	}
}

// TestLiveLineFits: no redrawn line may wrap, or the next redraw would not
// reach its beginning.
func TestLiveLineFits(t *testing.T) {
	for width := 20; width < 200; width++ {
		var out bytes.Buffer
		p := newPrinter(&out, printBar)
		p.width = func() int { return width }
		script(p)
		for _, line := range strings.Split(out.String(), "\r\x1b[K") {
			live, rest, _ := strings.Cut(line, "\n")
			if rest == "" && !strings.Contains(line, "\n") && utf8.RuneCountInString(live) >= width {
				t.Fatalf("width %d: %d columns: %q", width, utf8.RuneCountInString(live), live)
			}
		}
	}
}

func TestJSONIsOneObjectALine(t *testing.T) {
	var out bytes.Buffer
	p := newPrinter(&out, printJSON)
	p.Event(progressEvent{Step: "s", State: "failed", Percent: math.NaN(), Seconds: math.Inf(1), Message: "a\nb\x1b\u009b[31m\x7f\xff\"\\"})
	line := out.String()
	if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\n\x1b\x7f\u009b") {
		t.Errorf("control characters in %q", line)
	}
	var e map[string]any
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatal(err)
	}
	if e["message"] != "a\nb\x1b\u009b[31m\x7f\ufffd\"\\" || e["percent"] != nil || e["seconds"] != nil {
		t.Errorf("object %v", e)
	}
}

// TestNonsense: whatever the numbers, nothing odd is printed.
func TestNonsense(t *testing.T) {
	numbers := []float64{-1, 0, 1e-300, 50, 100, 101, 1e300, math.Inf(1), math.Inf(-1), math.NaN()}
	sizes := []int64{math.MinInt64, -1, 0, 1, 1 << 40, math.MaxInt64}
	times := []time.Duration{0, time.Nanosecond, time.Second, -time.Hour, 24 * 365 * time.Hour}
	for _, mode := range []printMode{printPlain, printBar, printJSON} {
		var out bytes.Buffer
		p := newPrinter(&out, mode)
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, n := range numbers {
			for _, done := range sizes {
				for _, total := range sizes {
					for _, d := range times {
						now = now.Add(d)
						p.Event(progressEvent{Time: now, Step: "s", State: "running", Percent: n, Done: done, Total: total})
					}
					p.Event(progressEvent{Time: now, Step: "s", State: "done", Percent: n, Done: done, Total: total, Seconds: n})
					now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
				}
			}
		}
		p.Close()
		for _, bad := range []string{"NaN", "Inf", ": -", " -", "--", "%!", "101%"} {
			if i := strings.Index(out.String(), bad); i >= 0 && mode != printJSON {
				t.Errorf("mode %d: %q in %q", mode, bad, out.String()[max(0, i-60):min(i+60, out.Len())])
			}
		}
		if strings.Contains(out.String(), "NaN") {
			t.Errorf("mode %d prints NaN", mode)
		}
	}
}

// TestRedrawRate feeds a thousand events in one second.
func TestRedrawRate(t *testing.T) {
	for _, mode := range []printMode{printBar, printJSON, printPlain} {
		var out bytes.Buffer
		p := newPrinter(&out, mode)
		start := time.Now()
		for i := range 1000 {
			p.Event(progressEvent{Time: start.Add(time.Duration(i) * time.Millisecond), Step: "pack", State: "running", Percent: -1, Done: int64(i)})
		}
		writes := strings.Count(out.String(), "pack")
		if limit := map[printMode]int{printBar: 10, printJSON: 10, printPlain: 1}[mode]; writes != limit {
			t.Errorf("mode %d: %d reports in a second, want %d", mode, writes, limit)
		}
	}
}

func TestSpeed(t *testing.T) {
	start := time.Now()
	var s speed
	at := func(second float64, value float64) { s.add(start.Add(seconds(second)), value) }
	at(0, 100)
	at(0.5, 150)
	if s.known() {
		t.Error("a rate after half a second")
	}
	at(1, 200)
	if !s.known() || math.Abs(s.rate-100) > 1e-6 {
		t.Errorf("rate %v, known %v, want 100", s.rate, s.known())
	}
	for i := range 20 { // it slows down to 10 a second
		at(2+float64(i), 210+10*float64(i))
	}
	if s.rate < 10 || s.rate > 14 {
		t.Errorf("rate %v some time after it fell from 100 to 10", s.rate)
	}
	for i := range 100 { // it stalls
		at(30+float64(i), 400)
	}
	if s.known() {
		t.Errorf("rate %v after a long stall", s.rate)
	}
	at(131, 0)
	at(133, 20)
	if !s.known() || math.Abs(s.rate-10) > 1e-6 {
		t.Errorf("rate %v after starting over, want 10", s.rate)
	}
}

func TestFormats(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 0: "0.0s", 440 * time.Millisecond: "0.4s", 9949 * time.Millisecond: "9.9s", 9950 * time.Millisecond: "10s",
		59499 * time.Millisecond: "59s", 59500 * time.Millisecond: "1m00s", 307 * time.Second: "5m07s", 2*time.Hour + 3*time.Minute: "2h03m",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%v) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-1: "0:00", 7 * time.Second: "0:07", 307 * time.Second: "5:07", 2*time.Hour + 3*time.Minute: "2:03:00"} {
		if got := formatClock(d); got != want {
			t.Errorf("formatClock(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[float64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1.5 * 1024 * 1024: "1.5 MiB", 99.94 * 1024: "99.9 KiB", 99.96 * 1024: "100 KiB",
		1023.6 * 1024: "1.0 MiB", 32 << 30: "32.0 GiB", 380 << 30: "380 GiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("formatBytes(%v) = %q, want %q", n, got, want)
		}
	}
}

func TestProgressText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":              "plain",
		"a \n\tb\r\nc":       "a b c",
		"\x1b[31mred\x07":    `\x1b[31mred\x07`,
		"\u009b2J\u202egpj.": `\x9b2J\u202egpj.`,
		"a\xffb":             "a\ufffdb",
		"größe":              "größe",
	} {
		if got := progressText(in); got != want {
			t.Errorf("progressText(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		in      string
		columns int
		want    string
	}{
		{"exactly ten", 11, "exactly ten"}, {"exactly ten", 10, "exactly..."}, {"", 5, ""}, {"größe", 7, "größe"}, {"größe", 6, "gr..."}, {"漢字漢字", 7, "漢字..."},
	} {
		if got := clip(tt.in, tt.columns); got != tt.want {
			t.Errorf("clip(%q, %d) = %q, want %q", tt.in, tt.columns, got, tt.want)
		}
	}
}

func TestPrintModeFor(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := printModeFor(file, false); got != printPlain {
		t.Errorf("a file gets mode %d", got)
	}
	if got := printModeFor(io.Discard, true); got != printJSON {
		t.Errorf("JSON is mode %d", got)
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, tt := range []struct {
		term, noColor string
		want          printMode
	}{{"xterm", "", printBar}, {"xterm", "1", printPlain}, {"dumb", "", printPlain}, {"", "", printPlain}} {
		t.Setenv("TERM", tt.term)
		t.Setenv("NO_COLOR", tt.noColor)
		if got := printModeFor(terminal, false); got != tt.want {
			t.Errorf("TERM=%q NO_COLOR=%q: mode %d, want %d", tt.term, tt.noColor, got, tt.want)
		}
	}
}

// failing is a pipe whose reader has gone.
type failing struct{ writes int }

func (f *failing) Write([]byte) (int, error) {
	f.writes++
	return 0, errors.New("broken pipe")
}

func TestWriteErrorEndsPrinting(t *testing.T) {
	w := new(failing)
	script(newPrinter(w, printPlain))
	if w.writes != 1 {
		t.Errorf("%d writes to a broken pipe, want 1", w.writes)
	}
}
