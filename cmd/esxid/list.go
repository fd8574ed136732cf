package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/bus/client"
)

func newListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [--json]",
		Short: "List the builds",
		Long:  "list prints all builds of the service, the newest last: id, boot resource name, what the\nISO is, state, and what is going on or how it ended. If the output is not a terminal\nthe fields are separated by tabs and there is no header.",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withState(cmd.Context(), func(_ *client.Client, state *client.State) error {
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), state.Builds)
				}
				var rows [][]string
				for _, b := range state.Builds {
					rows = append(rows, []string{b.ID, b.Name, isoOf(b), buildState(b), buildProgress(b, time.Now())})
				}
				if len(rows) == 0 {
					_, err := fmt.Fprintf(cmd.ErrOrStderr(), "There is no build: drop an ISO into %s.\n", printable(state.DropDirectory))
					return err
				}
				return table(cmd.OutOrStdout(), []string{"BUILD", "NAME", "ISO", "STATE", "PROGRESS"}, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// isoOf is what the ISO of a build is.
func isoOf(b client.Build) string {
	text := b.Version + " (" + b.BuildNumber + ")"
	if b.Vendor != "" {
		text += " " + b.Vendor
	}
	return text
}

// buildState is a build's state in one word.
func buildState(b client.Build) string {
	if b.Result == "cancelled" {
		return b.Result
	}
	return b.State
}
