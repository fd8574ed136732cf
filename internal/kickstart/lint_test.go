package kickstart

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with the file at path.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

func report(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// TestLint has a file for each rule. "@VERSION" in the name gives the version.
func TestLint(t *testing.T) {
	files, err := filepath.Glob("testdata/lint/*.cfg")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".cfg")
		t.Run(name, func(t *testing.T) {
			src, err := Read(file)
			if err != nil {
				t.Fatal(err)
			}
			src.Layers[0].Path = filepath.Base(file)
			_, version, _ := strings.Cut(name, "@")
			got := report(Lint(src, Version{Number: version}))
			for _, secret := range []string{"secretword", "kQ3", "aB.4", "Secretsecret7", "password123", "myp@ss", "AAAAAA", "BBBB", "CCCC"} {
				if strings.Contains(got, secret) {
					t.Errorf("the findings repeat %q:\n%s", secret, got)
				}
			}
			golden(t, strings.TrimSuffix(file, ".cfg")+".golden", got)
		})
	}
}
