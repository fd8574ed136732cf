package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/bus/client"
)

func newRebuildCommand() *cobra.Command {
	return controlCommand(&cobra.Command{
		Use:   "rebuild [--json] BUILD|NAME",
		Short: "Make a build anew, from the installation on",
		Long:  "rebuild installs anew although nothing has changed, and publishes the result. NAME, such as\nesxi/8.0, stands for the build of the newest ISO of that name. What the targets have\nstays until the new image is finished.",
		Args:  exactly(1, "one build or name"),

		ValidArgsFunction: completeBuilds(func(b client.Build) bool { return b.Current }, true),
	}, "will be built anew", func(ctx context.Context, c *client.Client, state *client.State, which string) (string, error) {
		if slices.ContainsFunc(state.Builds, func(b client.Build) bool { return b.Name == which }) {
			return c.Rebuild(ctx, which)
		}
		b, err := findBuild(state.Builds, which)
		if err != nil {
			return "", err
		}
		return c.Rebuild(ctx, b.ID)
	})
}

func newRetryCommand() *cobra.Command {
	return controlCommand(&cobra.Command{
		Use:   "retry [--json] BUILD",
		Short: "Let a build that failed or waits go on now",
		Long:  "retry lets a build that failed, was cancelled or waits for its next try go on now, from\nthe step it had come to.",
		Args:  exactly(1, "one build"),

		ValidArgsFunction: completeBuilds(func(b client.Build) bool { return b.Current && b.State != "done" && b.Step == "" }, false),
	}, "goes on", onBuild((*client.Client).Retry))
}

// newRepublishCommand asks for what publish does itself: with the service's rights and its
// credential, which nobody else has, and without waiting for it.
func newRepublishCommand() *cobra.Command {
	return controlCommand(&cobra.Command{
		Use:   "republish [--json] BUILD",
		Short: "Bring the image of a build to the targets again",
		Long:  "republish has the service look at every target again, and bring the image of a build to\nthose that do not have it, say because somebody deleted it there.",
		Args:  exactly(1, "one build"),

		ValidArgsFunction: completeBuilds(func(b client.Build) bool { return b.Current && b.Image != "" }, false),
	}, "will be published again", onBuild((*client.Client).Publish))
}

func newCancelCommand() *cobra.Command {
	return controlCommand(&cobra.Command{
		Use:   "cancel [--json] BUILD",
		Short: "End a build that runs or waits",
		Long:  "cancel ends a build that is running or waiting, and returns when it has ended. It stays as\nit is then, until: esxid retry",
		Args:  exactly(1, "one build"),

		ValidArgsFunction: completeBuilds(func(b client.Build) bool { return b.Result == "" }, false),
	}, "is cancelled", onBuild((*client.Client).Cancel))
}

// onBuild is what controlCommand does of a command whose argument is a build.
func onBuild(do func(*client.Client, context.Context, string) error) func(context.Context, *client.Client, *client.State, string) (string, error) {
	return func(ctx context.Context, c *client.Client, state *client.State, which string) (string, error) {
		b, err := findBuild(state.Builds, which)
		if err != nil {
			return "", err
		}
		return b.ID, do(c, ctx, b.ID)
	}
}

// controlCommand completes a command that changes a build, which do does and says of which; done
// says what is so now.
func controlCommand(cmd *cobra.Command, done string, do func(context.Context, *client.Client, *client.State, string) (id string, err error)) *cobra.Command {
	var asJSON bool
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, out := cmd.Context(), cmd.OutOrStdout()
		return withState(ctx, func(c *client.Client, state *client.State) error {
			id, err := do(ctx, c, state, args[0])
			if err != nil {
				return err
			}
			if !asJSON {
				_, err := fmt.Fprintf(out, "%s %s\n", printable(id), done)
				return err
			}
			now, err := c.State(ctx)
			if err != nil {
				return err
			}
			b, err := findBuild(now.Builds, id)
			if err != nil {
				return err
			}
			return writeJSON(out, b)
		})
	}
	return cmd
}
