// Command esxid turns VMware ESXi installer ISOs into images MAAS can deploy.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/fault"
)

// version is set by the linker for releases: -X main.version=1.2.3.
var version = "0.1.0-dev"

func main() {
	ctx, stop := handleSignals()
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// handleSignals returns a context that ends with the first signal that asks the
// program to end.
func handleSignals() (context.Context, context.CancelFunc) {
	// A build is not lost because nobody reads its output any more. (Were the
	// signal ignored, so it would be by the programs that are started.)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // whoever asks twice does not want to wait for a tidy end
	return ctx, stop
}

// exitInterrupted is what a shell shows for a program that SIGINT ended.
const exitInterrupted = 130

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		fmt.Fprintln(stderr, "esxid: interrupted")
		return exitInterrupted
	}
	if !errors.Is(err, errReported) {
		// Several errors in one, say of several targets, have a line each.
		fmt.Fprintln(stderr, "esxid: "+strings.ReplaceAll(printable(err.Error()), "\n", "\nesxid: "))
	}
	return int(fault.ClassOf(err))
}

// errReported marks a failure whose text has been printed as the command's
// result, such as lint's findings.
var errReported = errors.New("already reported")

// reported returns an error of a class that run does not print.
func reported(class fault.Class) error { return fault.As(class, errReported) }

// printable replaces control characters: messages quote file names, installers
// and servers, which are not trusted with the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0)) {
			return '?'
		}
		return r
	}, s)
}

const exitCodes = `Exit status:
  0   fine
  1   the work failed
  2   wrong use
  65  the input (ISO, kickstart, image) is not what it should be
  69  a service or program cannot be reached
  73  an output cannot be written
  75  try again later
  77  not permitted
  78  bad configuration
`

func newRootCommand(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "esxid",
		Short: "Turn VMware ESXi installer ISOs into images MAAS can deploy",
		Long: "esxid turns VMware ESXi installer ISOs into images MAAS can deploy.\n\n" +
			"As a service it watches a directory for ISOs (esxid run); esxid build does the\nsame once, in the foreground, for one ISO.\n\n" + exitCodes,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("esxid {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true // ours refuses an unknown shell
	root.SetHelpCommand(newHelpCommand())
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.New(fault.Usage, "%w (see: %s --help)", err, cmd.CommandPath())
	})
	root.AddCommand(
		newRunCommand(), newBuildCommand(), newInspectCommand(), newLintCommand(),
		newPackCommand(), newVerifyCommand(), newPublishCommand(), newDoctorCommand(), newVersionCommand(),
		newStepCommand(),
		newStatusCommand(), newListCommand(), newShowCommand(), newLogsCommand(), newRebuildCommand(), newRetryCommand(), newRepublishCommand(), newCancelCommand(),
		newCompletionCommand(),
	)
	// A usage line names the options itself; cobra would add [flags], also for --help alone.
	for _, cmd := range append(root.Commands(), root) {
		cmd.DisableFlagsInUseLine = true
	}
	return root
}

// unknownCommand is the error of a command that root does not have.
func unknownCommand(root *cobra.Command, name string) error {
	hint := ""
	if like := root.SuggestionsFor(name); len(like) > 0 {
		hint = ", did you mean " + strings.Join(like, " or ") + "?"
	}
	return fault.New(fault.Usage, "there is no command %q%s (see: esxid --help)", name, hint)
}

// newHelpCommand is cobra's, but a command that does not exist is an error.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show what a command does",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(root, strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag() // both are otherwise done when the command runs
			about.InitDefaultVersionFlag()
			return about.Help()
		},
	}
}

// exactly is cobra.ExactArgs with our exit code and words.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return fault.New(fault.Usage, "want %s (see: %s --help)", what, cmd.CommandPath())
		}
		return nil
	}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print esxid's version",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "esxid "+version)
			return err
		},
	}
}
