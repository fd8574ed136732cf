package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/daemon"
	"github.com/esxid/esxid/internal/doctor"
	"github.com/esxid/esxid/internal/fault"
)

func newDoctorCommand() *cobra.Command {
	var configPath string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE] [--json]",
		Short: "Check this host and this configuration",
		Long: "doctor looks for what would keep esxid from working: programs, KVM that really\nstarts a guest, nbd, memory, disk space, rights, and each target's address, key,\n" +
			"clock and admin right. It says what to do about each problem. Nothing is\nchanged, but the kernel module nbd may get loaded. What counts are the rights of\n" +
			"the service: run it as root to have all checked; what another user cannot find\nout is reported as unknown. It exits with 1 if there is a problem.",
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			subject := doctor.Subject{Path: configPath, Targets: daemon.Targets}
			if configPath == "" {
				if _, err := os.Stat(config.DefaultPath); !errors.Is(err, fs.ErrNotExist) {
					subject.Path = config.DefaultPath
				}
			}
			var err error
			subject.Config, err = loadConfig(configPath)
			if fault.ClassOf(err) == fault.NotPermitted {
				subject.Config, subject.Unread, err = config.Default(), err, nil
			}
			if err != nil {
				return err
			}
			findings := doctor.Examine(cmd.Context(), subject)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), findings)
			}
			problems := 0
			for _, f := range findings {
				if f.Level == doctor.Problem {
					problems++
				}
				if !asJSON && err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%-8s %s: %s\n", f.Level, printable(f.Check), printable(f.Detail))
				}
			}
			if err == nil && problems > 0 {
				return reported(fault.Failed)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&configPath, "config", "", "configuration file (default /etc/esxid/esxid.toml)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
