package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/kickstart"
	"github.com/esxid/esxid/internal/nbd"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/vm"
)

// buildOptions are the flags of esxid build.
type buildOptions struct {
	config, output, accel, kickstart string
	publish, plan, asJSON            bool
}

func newBuildCommand() *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] ISO",
		Short: "Build an image from an ISO, in the foreground",
		Long: "build does the whole way from an installer ISO to a verified image, without the\nservice, without systemd and without root. It prints the image's path last.\n\n" +
			"The image is put into DIR/<name>-<build>/ with its manifest, its checksums and, if\nnone was configured, its random root password.",
		Args: exactly(1, "one ISO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBuild(cmd.Context(), o, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config", "", "configuration file (default /etc/esxid/esxid.toml)")
	f.StringVarP(&o.output, "output", "o", ".", "directory the image is put into")
	f.StringVar(&o.accel, "accel", "", "kvm, tcg or auto, instead of the configuration's vm.accel")
	f.StringVar(&o.kickstart, "kickstart", "", "kickstart file, instead of the configuration's overrides")
	f.BoolVar(&o.publish, "publish", false, "publish the image to the configured targets")
	f.BoolVar(&o.plan, "plan", false, "print what would be done, as JSON, and stop")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object per event; the last one has the image and the steps' times")
	return cmd
}

// buildResult is the last line of esxid build --json.
type buildResult struct {
	Image    string       `json:"image"`
	Manifest string       `json:"manifest"`
	Name     string       `json:"name"`
	SHA256   string       `json:"sha256"`
	Steps    []stepResult `json:"steps"`
}

type stepResult struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// stepIdentify is what comes before the steps of a build.
const stepIdentify = "identify"

func runBuild(ctx context.Context, o buildOptions, isoPath string, stdout, stderr io.Writer) error {
	cfg, err := loadConfig(o.config)
	if err != nil {
		return err
	}
	switch o.accel {
	case "":
	case "kvm", "tcg", "auto":
		cfg.VM.Accel = o.accel
	default:
		return fault.New(fault.Usage, "--accel %q: want kvm, tcg or auto", o.accel)
	}
	events := newBuildPrinter(stdout, stderr, o.asJSON)
	defer func() { events.Close() }()

	if o.plan {
		return printPlan(ctx, cfg, o, isoPath, events, stdout)
	}
	result, err := buildImage(ctx, cfg, o, isoPath, events)
	events.Close()
	if result == nil {
		return err
	}
	if o.asJSON {
		return errors.Join(err, json.NewEncoder(stdout).Encode(result))
	}
	_, printErr := fmt.Fprintln(stdout, result.Image)
	return errors.Join(err, printErr)
}

func printPlan(ctx context.Context, cfg *config.Config, o buildOptions, isoPath string, events *printer, stdout io.Writer) error {
	info, warnings, err := identify(ctx, isoPath, nil)
	if err != nil {
		return err
	}
	plan, _, err := planBuild(cfg, o, info, warnings, nil, events)
	if err != nil {
		return err
	}
	events.Close()
	return writeJSON(stdout, plan)
}

// buildImage does the whole way. If only the publication failed there is a
// result beside the error.
func buildImage(ctx context.Context, cfg *config.Config, o buildOptions, isoPath string, events *printer) (*buildResult, error) {
	// Nothing is worth doing on a host that cannot do all of it, or for a target
	// that will not take the image.
	accel, err := resolveAccel(ctx, cfg, events)
	if err != nil {
		return nil, err
	}
	if err := build.CanCustomize(ctx, cfg.Image.Access); err != nil {
		return nil, err
	}
	var targets []publish.Publisher
	if o.publish {
		if targets, err = checkTargets(ctx, cfg, events); err != nil {
			return nil, err
		}
	}
	identified := stepReporter(events, stepIdentify)
	identified.started()
	info, warnings, err := identify(ctx, isoPath, identified.progress)
	identified.ended(err)
	if err != nil {
		return nil, err
	}
	times := []stepResult{{stepIdentify, time.Since(identified.begun).Seconds()}}
	w, err := openWork(o.output)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := nbd.Recover(ctx, cfg.RuntimeDir); err != nil {
		events.Note("warning: " + err.Error())
	}
	secret, err := w.store.Secret()
	if err != nil {
		return nil, err
	}
	plan, src, err := planBuild(cfg, o, info, warnings, secret, events)
	if err != nil {
		return nil, err
	}
	b, err := w.build(plan, src, isoPath)
	if err != nil {
		return nil, err
	}
	r := &build.Runner{
		Config: cfg, Store: w.store, Version: version, Targets: targets,
		ResolveAccel: func(context.Context) (string, error) { return accel, nil },
		Report: func(e build.Event) {
			if e.State == build.EventDone {
				times = append(times, stepResult{e.Step, e.Seconds})
			}
			events.Event(toProgress(e))
		},
	}
	if err := r.Make(ctx, b); err != nil {
		return nil, w.failed(ctx, b, err)
	}
	if o.publish {
		err = r.Publish(ctx, b)
	}
	dir := w.store.ImageDir(plan)
	return &buildResult{
		Image: filepath.Join(dir, build.ImageName(plan)), Manifest: filepath.Join(dir, build.ManifestName),
		Name: plan.Name, SHA256: b.Image.SHA256, Steps: times,
	}, err
}

// newBuildPrinter prints events where they do not mix with the result.
func newBuildPrinter(stdout, stderr io.Writer, asJSON bool) *printer {
	if asJSON {
		return newPrinter(stdout, printModeFor(stdout, true))
	}
	return newPrinter(stderr, printModeFor(stderr, false))
}

// planBuild reads and checks the kickstart, and plans. With a secret of nil the
// plan is only good to be looked at.
func planBuild(cfg *config.Config, o buildOptions, info iso.Info, warnings []string, secret []byte, events *printer) (build.Plan, kickstart.Source, error) {
	for _, w := range warnings {
		events.Note("warning: " + w)
	}
	v := kickstart.Version{Number: info.Version, Build: info.Build}
	var src kickstart.Source
	var err error
	if o.kickstart != "" {
		src, err = kickstart.Read(o.kickstart)
	} else {
		src, err = kickstart.Select(cfg.KickstartDir, v)
	}
	if err != nil {
		return build.Plan{}, src, err
	}
	if err := checkKickstart(src, v, events); err != nil {
		return build.Plan{}, src, err
	}
	plan, err := build.NewPlan(cfg, info, src, secret)
	for _, note := range plan.Notes {
		events.Note("warning: " + note)
	}
	return plan, src, err
}

// checkKickstart shows what lint finds, mere notes left out, and refuses a
// kickstart with errors.
func checkKickstart(src kickstart.Source, v kickstart.Version, events *printer) error {
	failed := 0
	for _, f := range kickstart.Lint(src, v) {
		if f.Level == kickstart.Note {
			continue
		}
		events.Note(f.String())
		if f.Level == kickstart.Error {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fault.New(fault.Input, "cannot use the kickstart %s: errors found in it: %d", src.Layers[0].Path, failed)
}

// checkTargets finds out whether the targets would take an image. What may be
// better by the time there is one is only warned about.
func checkTargets(ctx context.Context, cfg *config.Config, events *printer) ([]publish.Publisher, error) {
	targets, err := selectTargets(cfg, "")
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		switch err := t.Check(ctx); {
		case err == nil:
		case fault.ClassOf(err) == fault.NotPermitted:
			return nil, fmt.Errorf("cannot publish to %s: %w", t.Name(), err)
		default:
			events.Note(fmt.Sprintf("warning: target %s: %v", t.Name(), err))
		}
	}
	return targets, nil
}

// resolveAccel finds out how to run the virtual machine before anything is made.
func resolveAccel(ctx context.Context, cfg *config.Config, events *printer) (string, error) {
	accel, why, err := vm.Resolve(ctx, cfg.VM.QEMU, cfg.VM.Accel)
	if why != "" {
		events.Note("warning: " + why)
	}
	return accel, err
}
