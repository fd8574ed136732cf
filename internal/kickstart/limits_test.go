package kickstart

import (
	"strings"
	"testing"
	"time"
)

const valid = "vmaccepteula\ninstall --firstdisk=local --overwritevmfs --novmfsondisk\nnetwork --bootproto=dhcp --device=vmnic0\n"

// source makes a Source of texts called a.cfg, b.cfg and so on.
func source(texts ...string) Source {
	var src Source
	for i, text := range texts {
		src.Layers = append(src.Layers, Layer{Path: string(rune('a'+i)) + ".cfg", Text: []byte(text)})
	}
	return src
}

func TestLintNothing(t *testing.T) {
	findings := Lint(Source{}, Version{})
	if len(findings) != 1 || findings[0].Level != Error {
		t.Error(findings)
	}
}

// The installer reads 256 commands.
func TestLintCommandLimit(t *testing.T) {
	const pre = "%pre --interpreter=busybox\ntouch /x\n"
	if got := report(Lint(source(valid+strings.Repeat("%include /x\n", 253)+pre), Version{})); got != "" {
		t.Errorf("256 commands: %s", got)
	}
	want := "a.cfg:257: error: the installer reads at most 256 commands; remove the rest\n"
	if got := report(Lint(source(valid+strings.Repeat("%include /x\n", 300)+pre), Version{})); got != want {
		t.Errorf("303 commands: %s", got)
	}
}

func TestLintFindingLimit(t *testing.T) {
	findings := Lint(source(valid+strings.Repeat("foo\n", 200)+strings.Repeat("%end\n", 1000)), Version{})
	if len(findings) != maxProblems+1 {
		t.Fatalf("%d findings", len(findings))
	}
	last := findings[len(findings)-1]
	if last.Level != Error || !strings.Contains(last.Text, "more to say") {
		t.Error(last)
	}

	findings = Lint(source(valid+"%post --interpreter=busybox\n"+strings.Repeat("%s\n", 200)), Version{})
	if last := findings[len(findings)-1]; last.Level != Warning {
		t.Error("only warnings were left off, but:", last)
	}
}

// A layer continues where the one before it ends, in its last section too.
func TestLintLayers(t *testing.T) {
	for _, test := range []struct {
		name string
		src  Source
		want string
	}{
		{"commands", source("vmaccepteula\n", "# more\ninstall --firstdisk=local --overwritevmfs --novmfsondisk\n", "network --bootproto=dhcp\n"), ""},
		{"section after section", source(valid+"%pre --interpreter=busybox\ntrue\n", "\n# text\n%post --interpreter=busybox\ntrue\n"), ""},
		{"command after section", source(valid+"%post --interpreter=busybox\ntrue\n", "# mine\nkeyboard German\nkeyboard French\n"),
			"b.cfg:2: error: this line would become a part of %post, which begins at a.cfg:4 and has no end; begin this file with a section, or move its commands in front of the first section there\n"},
		{"line numbers", source(valid, "halt\n", "\nhalt\n"),
			"b.cfg:1: error: halt is no command of an ESXi kickstart; delete the line, esxid switches the build VM off by itself\n" +
				"c.cfg:2: error: halt is no command of an ESXi kickstart; delete the line, esxid switches the build VM off by itself\n"},
		{"repetition", source(valid, "keyboard German\n", "keyboard French\n"),
			"c.cfg:1: warning: keyboard is given at b.cfg:1 already; this one counts, delete the other\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := report(Lint(test.src, Version{})); got != test.want {
				t.Errorf("got:\n%swant:\n%s", got, test.want)
			}
		})
	}
}

// Findings come in the order of files and lines.
func TestLintOrder(t *testing.T) {
	findings := Lint(source("halt\nvmaccepteula\n%post --interpreter=bash\nreboot\n", "%firstboot\n%end\n"), Version{})
	lines := map[string]int{}
	last := ""
	for _, f := range findings {
		if f.File < last || f.Line < lines[f.File] {
			t.Errorf("out of order: %v", f)
		}
		last, lines[f.File] = f.File, f.Line
	}
	if len(findings) < 6 {
		t.Errorf("only %d findings", len(findings))
	}
}

// Hostile input of the allowed size must not keep the linter busy.
func TestLintIsFast(t *testing.T) {
	for name, unit := range map[string]string{
		"loops":         "while ",
		"parentheses":   "(",
		"substitutions": "$(",
		"here-docs":     "cat <<E\n E\n",
		"unknown":       "%firstboo\n",
		"includes":      "%include /a\n",
		"quotes":        "\"",
		"evals":         "eval \"eval true\"\n",
	} {
		head := valid + "%pre --interpreter=busybox\n"
		if name == "includes" {
			head = ""
		}
		text := head + strings.Repeat(unit, maxFile/len(unit))
		begin := time.Now()
		findings := Lint(source(text), Version{})
		if len(findings) > maxProblems+1 {
			t.Errorf("%s: %d findings", name, len(findings))
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
