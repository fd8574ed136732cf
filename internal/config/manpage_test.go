package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The man page has every key of the example, with the same default.
func TestManPage(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/man/esxid.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	roff := strings.NewReplacer(`"`, `\(dq`, "-", `\-`)
	keys := regexp.MustCompile(`(?m)^(# )?([a-z_]+) = (.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(keys) < 20 {
		t.Fatalf("found only %d keys in the example", len(keys))
	}
	for _, key := range keys {
		want := `.TP` + "\n" + `\fB` + key[2] + `\fR`
		if key[1] == "" { // not an example's value, but the default
			want += ` = \fB` + roff.Replace(key[3]) + `\fR`
		}
		if !strings.Contains(string(page), want) {
			t.Errorf("esxid.toml(5) lacks %q", want)
		}
	}
}
