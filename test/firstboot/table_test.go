package firstboot

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page with the table, and what is around the table there.
const (
	page       = "../../docs/deployed-host.md"
	tableBegin = "<!-- The table is written by go test ./test/firstboot -update. -->\n"
	tableEnd   = "<!-- End of the table. -->\n"
)

// checkTable compares the table of versions and machines in the documentation
// with the golden files.
func checkTable(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	golden(t, page, before+tableBegin+"\n"+table(t)+"\n"+tableEnd+after)
}

// table has a row for each machine and a column for each version. Failures are
// explained below, each reason once.
func table(t *testing.T) string {
	t.Helper()
	var rows, notes strings.Builder
	fmt.Fprintf(&rows, "| Machine | ESXi %s |\n|---|%s\n", strings.Join(versions, " | "), strings.Repeat("---|", len(versions)))
	var reasons []string
	for _, m := range machines {
		results := readGolden(t, m.name)
		fmt.Fprintf(&rows, "| %s |", m.about)
		for _, version := range versions {
			reason, ok := results[version]
			switch {
			case !ok:
				t.Errorf("%s says nothing about ESXi %s", goldenFile(m.name), version)
			case reason == "":
				rows.WriteString(" yes |")
			default:
				if !slices.Contains(reasons, reason) {
					reasons = append(reasons, reason)
					fmt.Fprintf(&notes, "%d. %s\n", len(reasons), reason)
				}
				fmt.Fprintf(&rows, " no (%d) |", slices.Index(reasons, reason)+1)
			}
		}
		rows.WriteString("\n")
	}
	return rows.String() + "\n" + notes.String()
}

var (
	deviceName  = regexp.MustCompile(`\b(t10|naa|eui|mpx)\.\S+`)
	versionName = regexp.MustCompile(`ESXi \d+\.\d+\.\d+`)
)

// readGolden returns by version why the deployment failed, "" where it did not.
func readGolden(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(goldenFile(name))
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]string{}
	first := ""
	for section := range strings.SplitSeq(strings.TrimPrefix(string(text), "==== ESXi "), "\n==== ESXi ") {
		head, body, _ := strings.Cut(section, "\n")
		list, abridged := strings.CutSuffix(head, likeFirst)
		if i := strings.LastIndex(body, failure); i >= 0 {
			first, _, _ = strings.Cut(body[i+len(failure):], "\n")
		} else if !abridged {
			first = ""
		}
		for version := range strings.SplitSeq(list, ", ") {
			results[version] = versionName.ReplaceAllString(deviceName.ReplaceAllString(first, "DISK"), "ESXi VERSION")
		}
	}
	return results
}
