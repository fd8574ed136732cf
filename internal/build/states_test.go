package build

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table of states in docs/ARCHITECTURE.md is the one in the code.
func TestStatesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## States of a build\n")
	section, _, _ = strings.Cut(section, "\n## ")
	row := regexp.MustCompile(`(?m)^\| ([a-z]+) \| ([a-z, ]+) \|$`)
	documented := map[State][]State{}
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		if State(m[1]) == "from" {
			continue
		}
		for to := range strings.SplitSeq(m[2], ", ") {
			documented[State(m[1])] = append(documented[State(m[1])], State(to))
		}
	}
	for from, to := range next {
		if !slices.Equal(documented[from], to) {
			t.Errorf("from %s the code goes to %v, the document says %v", from, to, documented[from])
		}
	}
	if len(documented) != len(next) {
		t.Errorf("the document has %d states, the code %d", len(documented), len(next))
	}
}
