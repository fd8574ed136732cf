package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/daemon"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

func newPublishCommand() *cobra.Command {
	var configPath, only string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "publish [--config FILE] [--target NAME] [--json] IMAGE.dd.gz",
		Short: "Upload a verified image",
		Long:  "publish uploads an image that esxid has verified, with its manifest beside it, to\nthe targets of the configuration. A target that has the same content already is\nleft alone.",
		Args:  exactly(1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(configPath)
			if err != nil {
				return err
			}
			m, err := build.ReadManifest(args[0])
			if err != nil {
				return err
			}
			targets, err := daemon.Targets(cfg)
			if err != nil {
				return err
			}
			events := newPrinter(cmd.ErrOrStderr(), printModeFor(cmd.ErrOrStderr(), false))
			defer func() { events.Close() }()
			results := []publish.Result{}
			var errs []error
			found := false
			for _, t := range targets {
				if only != "" && t.Name() != only {
					continue
				}
				found = true
				report := stepReporter(events, "publish to "+t.Name())
				report.started()
				r, err := build.PublishTo(cmd.Context(), t, m.PublishImage(args[0]), report.progress)
				report.ended(err)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				results = append(results, r)
			}
			events.Close()
			if !found {
				return noTarget(only)
			}
			if asJSON {
				errs = append(errs, writeJSON(cmd.OutOrStdout(), results))
			} else {
				for _, r := range results {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s\n", r.Target, r.Action, printable(r.Location))
				}
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().StringVar(&configPath, "config", "", "configuration file (default /etc/esxid/esxid.toml)")
	cmd.Flags().StringVar(&only, "target", "", "publish to this target only")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func noTarget(only string) error {
	if only != "" {
		return fault.New(fault.Usage, "the configuration has no target %q", only)
	}
	return fault.New(fault.Config, "the configuration has no [[target]] to publish to: see config.example.toml")
}
