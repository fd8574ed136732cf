package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// esxid(8) has every command that esxid --help shows, and every option of each. What
// is the same for several commands, like --json, need not be said of each.
func TestManPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/man/esxid.8")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if c.Hidden {
				continue
			}
			if !strings.Contains(page, ".TP\n\\fB"+c.Name()) {
				t.Errorf("esxid(8) lacks the command %s", c.Name())
			}
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if !strings.Contains(page, `\-\-`+strings.ReplaceAll(f.Name, "-", `\-`)) {
					t.Errorf("esxid(8) lacks the option --%s of %s", f.Name, c.Name())
				}
			})
			visit(c)
		}
	}
	visit(newRootCommand(io.Discard, io.Discard))
}
