package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
)

func newVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [--json] IMAGE.dd.gz",
		Short: "Check an image as a deployment would read it",
		Long:  "verify reads an image to its end and compares it with the manifest beside it: the\ngzip stream, the partition table, exactly one partition with the curtin hook, and\nevery byte of the payload.",
		Args:  exactly(1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			events := newPrinter(cmd.ErrOrStderr(), printModeFor(cmd.ErrOrStderr(), false))
			report := stepReporter(events, build.StepVerify)
			report.started()
			checks, err := build.VerifyImage(cmd.Context(), args[0], report.progress)
			if errors.Is(err, fs.ErrNotExist) {
				err = fault.As(fault.Input, err)
			}
			report.ended(err)
			events.Close()
			if asJSON && len(checks) > 0 {
				if err := writeJSON(cmd.OutOrStdout(), checks); err != nil {
					return err
				}
			}
			failed := false
			for _, c := range checks {
				word := "ok    "
				if !c.OK {
					word, failed = "FAILED", true
				}
				if !asJSON {
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", word, c.Name, printable(c.Detail)); err != nil {
						return err
					}
				}
			}
			if failed {
				return reported(fault.Input)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
