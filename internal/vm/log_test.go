package vm

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPhases(t *testing.T) {
	l := installerLog{marker: marker, phase: loading}
	for _, step := range []struct {
		line    string
		written int64
		want    string
	}{
		{"\x1b[2J\x1b[HLoading /k.b00", 0, "loading"},
		{"Relocating modules and starting up the kernel...", 0, "booting"},
		{"TSC: 573600 cpu0:1)Boot: runweasel ks=cdrom:/KS.CFG", 0, "booting"},
		{"0:00:00:04.1 cpu0:65536)installer sections: %post --interpreter=busybox", 0, "booting"},
		{logPrefix + "something unknown", 0, "booting"},
		{"2026-11-22T10:00:05.1Z cpu1:20976 opID=a1b2)weasel: starting", 0, "installing"},
		{logPrefix + "Relocating modules", 0, "installing"}, // never back
		{logPrefix + "running %post", 0, "installing"},      // nothing is installed yet
		{"", 200 << 20, "installing"},
		{logPrefix + "running %post script", 200 << 20, "post"},
		{logPrefix + marker, 200 << 20, "powering off"},
	} {
		l.disk(step.written)
		l.line([]byte(step.line))
		if l.phase.String() != step.want {
			t.Errorf("after %q: %s, want %s", step.line, l.phase, step.want)
		}
	}
}

func TestPhaseByDisk(t *testing.T) {
	l := installerLog{marker: marker, phase: loading}
	l.disk(4096)
	if l.phase != loading {
		t.Errorf("phase = %s after a sector", l.phase)
	}
	l.disk(2 << 20)
	if l.phase != installing {
		t.Errorf("phase = %s after 2 MiB", l.phase)
	}
}

func TestMarker(t *testing.T) {
	for line, want := range map[string]bool{
		logPrefix + marker:                      true,
		logPrefix + "post: " + marker + ".":     true,
		"\x1b[1m" + marker + "\x1b[0m\r":        true,
		marker[:5] + "\x1b[m" + marker[5:]:      true,
		marker + marker:                         false,
		marker + "x " + marker:                  true,
		logPrefix + marker + "0":                false,
		logPrefix + "-" + marker:                false,
		logPrefix + "_" + marker:                false,
		logPrefix + strings.ToUpper(marker):     false,
		logPrefix + `M="esxid-done"-"6b1f0c9a"`: false,
		logPrefix + marker[:len(marker)-1]:      false,
		strings.Repeat(marker+"x ", 100):        false,
	} {
		l := installerLog{marker: marker}
		l.line([]byte(line))
		if l.markerSeen != want {
			t.Errorf("marker seen in %q: %v, want %v", line, l.markerSeen, want)
		}
	}
}

func TestFailures(t *testing.T) {
	for line, want := range map[string]string{
		"error:vmaccepteula command was not specified.":                    "error:vmaccepteula command was not specified.",
		logPrefix + "weasel: error: bad thing":                             "weasel: error: bad thing",
		logPrefix + "An unexpected error occurred":                         "An unexpected error occurred",
		"An error has occurred while parsing the installation script":      "An error has occurred while parsing the installation script",
		"RuntimeError: t10.ATA_____X: disk device does not support OSDATA": "RuntimeError: t10.ATA_____X: disk device does not support OSDATA",
		"weasel.exception.HandledError":                                    "weasel.exception.HandledError",
		"No network adapters were detected":                                "No network adapters were detected",
		"cannot find kickstart file on cd-rom with path -- /KS.CFG":        "cannot find kickstart file on cd-rom with path -- /KS.CFG",
		"2015-12-17T20:34:03.603Z cpu3:47209)@BlueScreen: CrashMe":         "@BlueScreen: CrashMe",
		"#PF Exception 14 in world 1:x":                                    "#PF Exception 14 in world 1:x",
		"Kernel panic - not syncing: VFS":                                  "Kernel panic - not syncing: VFS",
		"cpu0:1)Boot: cpuUniformityHardCheckPanic=FALSE":                   "",
		"cpu0:1)ErrorCorrection: no errors":                                "",
		"cpu0:1)terror:none":                                               "",
	} {
		l := installerLog{marker: marker}
		l.line([]byte(line))
		if got := strings.Join(l.failure, ";"); got != want {
			t.Errorf("failure in %q: %q, want %q", line, got, want)
		}
	}
}

func TestFailureIsQuoted(t *testing.T) {
	l := installerLog{marker: marker}
	lines := []string{"An unexpected error occurred", "See logs for details"}
	for i := range 30 {
		lines = append(lines, fmt.Sprintf(`  File "x.py", line %d`, i))
	}
	lines = append(lines, "ValueError: 1", "KeyError: 2", "OSError: 3", "RuntimeError: the end", "press a key")
	for _, line := range lines {
		l.line([]byte(line))
	}
	want := "An unexpected error occurred; ValueError: 1; KeyError: 2; RuntimeError: the end"
	if got := l.words(); got != want {
		t.Errorf("words = %q, want %q", got, want)
	}
}

// TestFailureGoesStale: what looked like an error was none if the installation
// goes on.
func TestFailureGoesStale(t *testing.T) {
	for name, goOn := range map[string]func(*installerLog){
		"log": func(l *installerLog) {
			for range staleLines {
				l.line([]byte("more"))
			}
		},
		"disk": func(l *installerLog) { l.disk(5<<20 + staleWritten + 1) },
	} {
		l := installerLog{marker: marker}
		l.disk(5 << 20)
		l.line([]byte("error: maybe"))
		if !l.stopped() {
			t.Fatalf("%s: the error was not noticed", name)
		}
		goOn(&l)
		if l.stopped() {
			t.Errorf("%s: still taken for the end: %q", name, l.failure)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, tt := range []struct {
		phase                   phase
		read, written, expected int64
		want                    float64
	}{
		{starting, 0, 0, 100, 0},
		{loading, 50, 0, 100, 7.5},
		{loading, 1000, 0, 100, 15},
		{booting, 100, 0, 100, 15},
		{installing, 100, 50, 100, 57.5},
		{installing, 100, 500, 100, 90},
		{postInstall, 100, 100, 100, 92},
		{poweringOff, 100, 100, 100, 98},
		{installing, 100, 50, 0, -1},
	} {
		done := counters{diskWritten: tt.written, cdRead: tt.read}
		if got := percent(tt.phase, done, Spec{ISOSize: 100, ExpectedWritten: tt.expected}); got != tt.want {
			t.Errorf("percent(%+v) = %v", tt, got)
		}
	}
}

func TestReadable(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[1;31merror\x1b[0m\x07 \x1b(0x\x1b[2K\r\n": "error x",
		"a\tb\x00c\xff":       "a bc?",
		"\u202efdp.exe\u2028": "fdp.exe",
		"grün — ok":           "grün — ok",
	} {
		if got := readable([]byte(in)); got != want {
			t.Errorf("readable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzInstallerLog(f *testing.F) {
	f.Add([]byte(bootLine + logPrefix + "error: \x1b[31mx\n" + markerLine))
	f.Add([]byte("cpu0:1)rootpw --iscrypted $6$a$b\nRuntimeError: $6$a$b \xff\xfe"))
	f.Fuzz(func(t *testing.T, input []byte) {
		l := installerLog{marker: marker}
		var s splitter
		take := func(raw []byte) { l.line(redacted(raw)) }
		s.feed(input, take)
		s.flush(take)
		words := l.words()
		if len(words) > maxQuotes*(maxText+len("…; ")) || !utf8.ValidString(words) || readable([]byte(words)) != words {
			t.Errorf("words = %q", words)
		}
		if len(l.last) > maxText+len("…") {
			t.Errorf("last = %q", l.last)
		}
	})
}
