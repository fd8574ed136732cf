package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/daemon"
)

func newRunCommand() *cobra.Command {
	var configPath string
	cmd := &cobra.Command{
		Use:   "run [--config FILE]",
		Short: "Run the service",
		Long:  "run watches incoming for installer ISOs and the kickstart directory for changes,\nbuilds an image for each ISO and publishes it. It works in the foreground until it\ngets SIGINT or SIGTERM; what it was doing then, or when it was killed, goes on at\nthe next start.",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			d, err := daemon.New(func() (*config.Config, error) { return loadConfig(configPath) }, version, log)
			if err != nil {
				return err
			}
			return d.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&configPath, "config", "", "configuration file (default /etc/esxid/esxid.toml)")
	return cmd
}
