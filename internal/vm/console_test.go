package vm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func split(chunks ...string) []string {
	var s splitter
	var lines []string
	take := func(b []byte) { lines = append(lines, string(b)) }
	for _, c := range chunks {
		s.feed([]byte(c), take)
	}
	s.flush(take)
	return lines
}

func TestSplitter(t *testing.T) {
	word := strings.Repeat("x", 1000)
	long := strings.Repeat(word+" ", 5) // cut after the fourth blank
	solid := strings.Repeat("y", maxLine+10)
	for name, tt := range map[string]struct{ in, want []string }{
		"lines":      {[]string{"a\nb\r\n", "c"}, []string{"a\n", "b\r", "\n", "c"}},
		"pieces":     {[]string{"a", "b", "\n", ""}, []string{"ab\n"}},
		"redrawn":    {[]string{"10%\r20%\r"}, []string{"10%\r", "20%\r"}},
		"binary":     {[]string{"\x00\xff\n\x1b["}, []string{"\x00\xff\n", "\x1b["}},
		"long":       {[]string{long}, []string{long[:4*1001], long[4*1001:]}},
		"solid":      {[]string{solid[:5], solid[5:]}, []string{solid[:maxLine], solid[maxLine:]}},
		"end at max": {[]string{solid[:maxLine] + "\n"}, []string{solid[:maxLine], "\n"}},
	} {
		if got := split(tt.in...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("one\r\ntwo\x00"), uint16(3))
	f.Add(bytes.Repeat([]byte("word "), 3000), uint16(777))
	f.Fuzz(func(t *testing.T, input []byte, size uint16) {
		var s splitter
		var all []byte
		take := func(line []byte) {
			if len(line) == 0 || len(line) > maxLine {
				t.Fatalf("a line of %d bytes", len(line))
			}
			all = append(all, line...)
		}
		for chunk := range slices.Chunk(input, int(size)+1) {
			s.feed(chunk, take)
		}
		s.flush(take)
		if !bytes.Equal(all, input) {
			t.Error("the lines are not the input")
		}
	})
}

func TestRedacted(t *testing.T) {
	for in, want := range map[string]string{
		"rootpw --iscrypted $6$salt$hash/x.y\r\n":               "rootpw --iscrypted [removed]\r\n",
		"2026 cpu0:12)rootpw  Secret 1!\n":                      "2026 cpu0:12)rootpw  [removed]\n",
		"serialnum --esx=\"AAAAA-BBBBB-CCCCC-DDDDD-EEEEE\"\r\n": "serialnum --esx=[removed]\r\n",
		"hash=$6$abc$def; more":                                 "hash=[removed] more",
		"$y$j9T$salt$hash $1$a$b":                               "[removed] [removed]",
		"error:KS.CFG:line 2: bad password for rootpw.\n":       "error:KS.CFG:line 2: bad password for rootpw.\n",
		"echo $PATH $1 \xff\x00\n":                              "echo $PATH $1 \xff\x00\n",
		"rootpw --iscrypted\n":                                  "rootpw --iscrypted\n",
	} {
		if got := string(redacted([]byte(in))); got != want {
			t.Errorf("redacted(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestConsoleIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	c, err := createConsole(path)
	if err != nil {
		t.Fatal(err)
	}
	const width, lines = 1000, (consoleHead + 4*consoleTail) / 1000
	for i := range lines {
		c.write(fmt.Appendf(nil, "%-*d\n", width-1, i))
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > consoleHead+2*consoleTail+100 {
		t.Errorf("the log has %d bytes", len(b))
	}
	head, tail, cut := strings.Cut(string(b), "\n[esxid: ")
	var dropped int
	if _, err := fmt.Sscanf(tail, "%d bytes left out]\n", &dropped); !cut || err != nil {
		t.Fatalf("the log does not say that it was cut (%v)", err)
	}
	_, tail, _ = strings.Cut(tail, "\n")
	if len(head)+dropped+len(tail) != lines*width {
		t.Errorf("%d + %d + %d bytes, want %d", len(head), dropped, len(tail), lines*width)
	}
	if !strings.HasPrefix(head, "0 ") || !strings.Contains(tail, fmt.Sprintf("\n%-*d\n", width-1, lines-1)) {
		t.Error("the log's beginning or end is missing")
	}
}

func TestConsoleFullDisk(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{file: f}
	c.write([]byte("a line\n"))
	if err := c.close(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("close = %v", err)
	}
}
