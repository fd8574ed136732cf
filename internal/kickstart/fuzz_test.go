package kickstart

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seeds adds all test kickstarts to a fuzz target's corpus.
func seeds(f *testing.F, add func(text []byte)) {
	files, err := filepath.Glob("testdata/lint/*.cfg")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		add(text)
	}
}

func FuzzSplitWords(f *testing.F) {
	for _, line := range wordLines {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, _, err := splitWords(line)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, w := range words {
			again.WriteString("'" + strings.ReplaceAll(w, "'", `'\''`) + "' ")
		}
		got, cut, err := splitWords(again.String())
		if err != nil || cut || !slices.Equal(got, words) {
			t.Errorf("%q became %q, and quoted again %q (%v)", line, words, got, err)
		}
	})
}

// Whatever stands around it, a root password does not get into a finding, and a
// finding points at a line that exists.
func FuzzLint(f *testing.F) {
	const secret = "zQ9.xW4-vT7_k"
	seeds(f, func(text []byte) {
		f.Add(string(text), "", "8.0.3")
		f.Add("", string(text), "6.7.0")
	})
	f.Fuzz(func(t *testing.T, before, after, version string) {
		if strings.Contains(before+after, "zQ9") {
			return
		}
		src := source(before+"\nrootpw "+secret+"\n"+after, after)
		for _, f := range Lint(src, Version{Number: version}) {
			if strings.Contains(f.String(), "zQ9") {
				t.Errorf("repeats the password: %v", f)
			}
			i := slices.IndexFunc(src.Layers, func(l Layer) bool { return l.Path == f.File })
			if i < 0 || f.Line < 1 || f.Line > 1+strings.Count(string(src.Layers[i].Text), "\n") {
				t.Errorf("points nowhere: %v", f)
			}
			if f.Text == "" || strings.ContainsAny(f.Text, "\n\r\x1b") {
				t.Errorf("is not one clean line: %q", f.Text)
			}
		}
	})
}

// What Render returns passes the linter, ends with esxid's own %post, and does
// not contain the marker.
func FuzzRender(f *testing.F) {
	seeds(f, func(text []byte) { f.Add(text, []byte("echo first\n")) })
	f.Fuzz(func(t *testing.T, text, firstBoot []byte) {
		o := options("8.0.3")
		o.FirstBoot = firstBoot
		out, err := Render(source(string(text), "# nothing\n"), o)
		if err != nil {
			return
		}
		if bytes.Contains(out, []byte(o.Marker)) {
			t.Error("contains the marker")
		}
		if n := bytes.Count(out, []byte("rootpw --iscrypted "+o.PasswordHash+"\n")); n == 0 {
			t.Error("has no root password")
		}
		half := len(o.Marker) / 2
		if !bytes.HasSuffix(out, []byte("%post --interpreter=busybox --ignorefailure=true\n"+postBody(o.Marker[:half], o.Marker[half:]))) {
			t.Errorf("does not end with the marker:\n%s", out)
		}
		for _, f := range lint(source(string(out)), o.Version, true) {
			if f.Level == Error {
				t.Error(f)
			}
		}
	})
}
