package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

// newStepCommand is what esxid-install@.service and esxid-customize@.service run.
// It reads no configuration, which those units cannot see: all it needs is in the
// job that the service left in the build's directory.
func newStepCommand() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:    "step [--state-dir DIR] install|customize BUILD",
		Short:  "Run one step of a build for the service",
		Long:   "step does the job that the service has left in the directory of a build, and\nleaves the result there. The units esxid-install@.service and\nesxid-customize@.service run it; systemd gives them the rights.",
		Hidden: true,
		Args:   exactly(2, "a step and the id of a build"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{build.StepInstall, build.StepCustomize}, args[0]) {
				return fault.New(fault.Usage, "no unit runs the step %.40q: want install or customize", args[0])
			}
			note, err := build.RunJob(cmd.Context(), build.JobOptions{
				Builds: filepath.Join(stateDir, "builds"), Build: args[1], Step: args[0],
				Owner: os.Geteuid(),
				// What RuntimeDirectory= of the unit has made.
				LockDir:  cmp.Or(os.Getenv("RUNTIME_DIRECTORY"), config.Default().RuntimeDir),
				Progress: tellManager,
			})
			if err != nil {
				tellManager(err.Error())
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s done: %s\n", args[0], printable(note))
			return nil
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", config.Default().StateDir, "the service's state_dir")
	return cmd
}

// tellManager shows a text in the unit's status, from where the service has it. It
// makes one line of it: to systemd another one would be another message.
func tellManager(text string) {
	line := strings.ReplaceAll(printable(text), "\n", "; ")
	// Without a manager this does nothing; with one, a lost line is no reason to stop.
	_, _ = sd.SdNotify(false, "STATUS="+line)
}
