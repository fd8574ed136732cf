package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/image"
)

func newPackCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pack [--json] RAW OUT.dd.gz",
		Short: "Compress a raw disk into a dd.gz image",
		Long:  "pack compresses a sparse raw disk into one ordinary gzip file. Holes are not read,\nall cores are used, and the part behind the last written data is not shipped.",
		Args:  exactly(2, "a raw disk and an output file"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			events := newPrinter(cmd.ErrOrStderr(), printModeFor(cmd.ErrOrStderr(), false))
			defer func() { events.Close() }()
			report := stepReporter(events, build.StepPack)
			report.started()
			r, err := image.Pack(cmd.Context(), args[0], args[1], image.PackOptions{Progress: report.progress})
			report.ended(err)
			if err != nil {
				return err
			}
			events.Close()
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), r)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), args[1])
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
