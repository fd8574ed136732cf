package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
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
		Long:  "publish uploads an image that esxid has verified, with its manifest beside it, to\nthe targets of the configuration. A target that has the same content already is\nleft alone. For what the service has built there is: esxid republish",
		Args:  exactly(1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(configPath)
			if err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) {
				return fault.New(fault.Input, "cannot publish %s: there is no such file; to have the service publish a build again: esxid republish BUILD", args[0])
			}
			m, err := build.ReadManifest(args[0])
			if err != nil {
				return err
			}
			targets, err := selectTargets(cfg, only)
			if err != nil {
				return err
			}
			events := newPrinter(cmd.ErrOrStderr(), printModeFor(cmd.ErrOrStderr(), false))
			defer func() { events.Close() }()
			var results []publish.Result
			var errs []error
			for _, t := range targets {
				r, err := publishTo(cmd.Context(), t, m.PublishImage(args[0]), stepReporter(events, "publish to "+t.Name()))
				if err != nil {
					errs = append(errs, err)
					continue
				}
				results = append(results, r)
			}
			events.Close()
			return errors.Join(build.Worst(errs), writeResults(cmd.OutOrStdout(), results, asJSON))
		},
	}
	cmd.Flags().StringVar(&configPath, "config", "", "configuration file (default /etc/esxid/esxid.toml)")
	cmd.Flags().StringVar(&only, "target", "", "publish to this target only")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// publishTo publishes to one target. Publishing is patient with a target that
// does not answer, for the sake of a MAAS that restarts; whoever waits at a
// terminal for one that is not there at all is told at once.
func publishTo(ctx context.Context, t publish.Publisher, img publish.Image, report *reporter) (publish.Result, error) {
	report.started()
	var r publish.Result
	err := t.Check(ctx)
	if fault.ClassOf(err) == fault.Unavailable {
		err = fmt.Errorf("cannot publish %s to %s: %w", img.Name, t.Name(), err)
	} else {
		r, err = build.PublishTo(ctx, t, img, report.progress)
	}
	report.ended(err)
	return r, err
}

// writeResults prints what was published, if anything was.
func writeResults(w io.Writer, results []publish.Result, asJSON bool) error {
	if len(results) == 0 {
		return nil
	}
	if asJSON {
		return writeJSON(w, results)
	}
	for _, r := range results {
		if _, err := fmt.Fprintf(w, "%s: %s %s\n", r.Target, r.Action, printable(r.Location)); err != nil {
			return err
		}
	}
	return nil
}

// selectTargets returns the configured targets, or only the one of that name.
func selectTargets(cfg *config.Config, only string) ([]publish.Publisher, error) {
	targets, err := daemon.Targets(cfg)
	if err != nil {
		return nil, err
	}
	if only != "" {
		targets = slices.DeleteFunc(targets, func(t publish.Publisher) bool { return t.Name() != only })
	}
	switch {
	case len(targets) > 0:
		return targets, nil
	case only != "":
		return nil, fault.New(fault.Usage, "the configuration has no target %q", only)
	}
	return nil, fault.New(fault.Config, "the configuration has no [[target]] to publish to: see config.example.toml")
}
