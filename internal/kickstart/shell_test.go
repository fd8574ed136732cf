package kickstart

import (
	"fmt"
	"strings"
	"testing"
)

func scan(script string) ([]shellCommand, []hereDoc) {
	var body []bodyLine
	for i, text := range splitLines(script) {
		body = append(body, bodyLine{pos{0, i + 1}, text})
	}
	return scanShell(body)
}

// TestScanShell shows each command as "line:word,word>file>>file", and with a ~
// in front if it polls.
func TestScanShell(t *testing.T) {
	for _, test := range []struct{ script, want string }{
		{"", ""},
		{"a b  c", "1:a,b,c"},
		{"a; b && c || d | e & f", "1:a 1:b 1:c 1:d 1:e 1:f"},
		{"# a\nb # c\nd#e", "2:b 3:d#e"},
		{"a 'b; c' \"d; \\\"e\" f\\ g", `1:a,b; c,d; "e,f g`},
		{"a 'b\nc' d\ne", "1:a,b\nc,d 3:e"},
		{"a \\\n  b\nc", "1:a,b 3:c"},
		{"a >b 2>&1 >>c <d 2>e", "1:a>b>e>>c"},
		{">a", "1:>a"},
		{"X=1 a", "1:X=1,a"},
		{"if a; then b; elif ! c; then d; else e; fi", "1:a 1:b 1:c 1:d 1:e"},
		{"f() { a; }\nf", "1:a 2:f"},
		{"f ( ) {\na\n}", "2:a"},
		{"(a; b) && c", "1:a 1:b 1:c"},
		{"a $(b c) d", "1:b,c 1:a,,d"},
		{"a x$(b)y d", "1:b 1:a,xy,d"},
		{"a $((1 << 2)) ${B:-c; d} e", "1:a,1 << 2,B:-c; d,e"},
		{"a `b`", "1:a 1:b"},
		{"case $1 in\na|b) c;;\n(d) e\n;;\n*) f;;\nesac\ng", "2:c 3:e 5:f 7:g"},
		{"case $1 in a) b;; esac; c", "1:b 1:c"},
		{"for i in a b; do c; done; d", "1:c 1:d"},
		{"while a; do b; done; c", "~1:a 1:b 1:c"},
		{"until a; b\ndo\nsleep 1\ndone", "~1:a ~1:b ~3:sleep,1"},
		{"for i in 1 2\ndo\n a && break\n sleep 1\ndone\na", "~3:a ~3:break ~4:sleep,1 6:a"},
		{"while a; do for i in b; do c; done; done", "~1:a 1:c"},
		{"done; a", "1:a"},
		{"cat <<E\nreboot\nE\na", "1:cat 4:a"},
		{"cat <<E; b\nE\na", "1:cat 1:b 3:a"},
		{"cat <<'E' >f <<\\G\nx\nE\ny\nG\na", "1:cat>f 6:a"},
		{"cat <<-E\n\tx\n\tE\na", "1:cat 4:a"},
		{"cat << E\n E\na", "1:cat 3:a !2 indented"},
		{"cat <<-E\n E\na", "1:cat 3:a !2 indented"},
		{"cat <<E\na\nb", "1:cat !1"},
		{"cat <<", "1:cat"},
		{"sh -c 'a; b'", "1:sh,-c,a; b 1:a 1:b"},
		{"/bin/busybox sh -c \"sh -c 'a'\"", "1:/bin/busybox,sh,-c,sh -c 'a' 1:sh,-c,a 1:a"},
		{"eval a '; b'", "1:eval,a,; b 1:a 1:b"},
		{"a 'open\nb", "1:a,open\nb\n"},
		{"a \"open\nb", "1:a,open\nb\n"},
		{"a ${open\nb", "1:a,open\nb\n"},
		{"a )\nb", "2:b"},
		{"a\tb\r", "1:a,b"},
	} {
		commands, docs := scan(test.script)
		var got []string
		for _, c := range commands {
			text := fmt.Sprintf("%d:%s", c.at.line, strings.Join(c.words, ","))
			for _, f := range c.writes {
				text += ">" + f
			}
			for _, f := range c.appends {
				text += ">>" + f
			}
			if c.polls {
				text = "~" + text
			}
			got = append(got, text)
		}
		for _, d := range docs {
			text := fmt.Sprintf("!%d", d.at.line)
			if d.indented {
				text += " indented"
			}
			got = append(got, text)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%q:\n got %q\nwant %q", test.script, got, test.want)
		}
	}
}

func TestArgv(t *testing.T) {
	for words, want := range map[string]string{
		"reboot":                       "reboot",
		"/sbin/reboot -f":              "reboot -f",
		"A=1 B=2 exec /bin/sh -c x":    "sh -c x",
		"nohup busybox poweroff":       "poweroff",
		"A=1":                          "",
		"":                             "",
		"env A=1 esxcli --debug a=b c": "esxcli --debug a=b c",
	} {
		if got := strings.Join(shellCommand{words: strings.Fields(words)}.argv(), " "); got != want {
			t.Errorf("%q: %q", words, got)
		}
	}
}
