package kickstart

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSplitLines(t *testing.T) {
	for text, want := range map[string][]string{"": nil, "a": {"a"}, "a\n": {"a"}, "a\nb": {"a", "b"}, "\n": {""}, "a\n\n": {"a", ""}} {
		if got := splitLines(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

var wordLines = []string{
	``, `   `, `# all`, `vmaccepteula`, `install --firstdisk=local  --overwritevmfs`, "\tnetwork\t--bootproto=dhcp\r",
	`keyboard 'US Default'`, `keyboard "US Default"`, `keyboard US\ Default`, `a'b c'd"e f"g`, `""`, `a '' b`,
	`rootpw a#b c`, `a #b`, `a# b`, `"a#b"`, `\#a`, `"a\"b"`, `"a\\b"`, `"a\nb"`, `'a\nb'`, `'a"b'`, `"a'b"`,
	`%post --interpreter=busybox # comment`, `--nameserver="192.0.2.1,192.0.2.2"`, `$6$ab./$x`, `a;b|c&d>e`, `(a)`,
	`"open`, `'open`, `"open\`, `a \`, `\`, `a 'b`, `a"b`, "a\x0bb", "\xc3\xa4 b", "a\xffb",
}

func TestSplitWords(t *testing.T) {
	for line, want := range map[string]struct {
		words []string
		cut   bool
		err   error
	}{
		`a 'b c' "d\"e" f\ g # h`: {[]string{"a", "b c", `d"e`, "f g"}, false, nil},
		`a#b`:                     {[]string{"a"}, true, nil},
		`#b`:                      {nil, false, nil},
		`a "b`:                    {[]string{"a", "b"}, false, errOpenQuote},
		`a b\`:                    {[]string{"a", "b"}, false, errOpenEscape},
	} {
		words, cut, err := splitWords(line)
		if !slices.Equal(words, want.words) || cut != want.cut || !errors.Is(err, want.err) {
			t.Errorf("%q: %q %v %v", line, words, cut, err)
		}
	}
}

// The installer's own tokenizer is the oracle for ours.
func TestSplitWordsLikePython(t *testing.T) {
	lines := slices.DeleteFunc(slices.Clone(wordLines), func(l string) bool { return strings.Contains(l, "\xff") }) // not JSON
	input, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	const program = `
import json, shlex, sys
def words(line):
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return None
print(json.dumps([words(line) for line in json.load(sys.stdin)]))`
	python := exec.Command("python3", "-c", program)
	python.Stdin = strings.NewReader(string(input))
	output, err := python.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [][]string
	if err := json.Unmarshal(output, &want); err != nil || len(want) != len(lines) {
		t.Fatal(err, len(want))
	}
	for i, line := range lines {
		words, _, err := splitWords(line)
		if (err != nil) != (want[i] == nil) {
			t.Errorf("%q: %v, Python: %q", line, err, want[i])
		}
		if err == nil && !slices.Equal(words, want[i]) {
			t.Errorf("%q: %q, Python: %q", line, words, want[i])
		}
	}
}
