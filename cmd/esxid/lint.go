package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/kickstart"
)

func newLintCommand() *cobra.Command {
	var esxi string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint [--version V] [--json] KICKSTART",
		Short: "Check a kickstart",
		Long:  "lint checks a kickstart against the grammar of the ESXi installer and against what\nis known to hang or spoil a build. It exits with 1 if any finding is an error.",
		Args:  exactly(1, "one kickstart file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, err := kickstart.Read(args[0])
			if err != nil {
				return err
			}
			findings := kickstart.Lint(src, kickstart.Version{Number: esxi})
			if asJSON {
				if findings == nil {
					findings = []kickstart.Finding{}
				}
				err = writeJSON(cmd.OutOrStdout(), findings)
			}
			failed := false
			for _, f := range findings {
				failed = failed || f.Level == kickstart.Error
				if !asJSON && err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), printable(f.String()))
				}
			}
			if err == nil && failed {
				return reported(fault.Failed)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&esxi, "version", "", "ESXi version the kickstart is for, such as 8.0.3")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
