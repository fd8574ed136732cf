// Command rig is the developer's side of the tests: it makes installer ISOs,
// serves a MAAS and deploys images, all simulated.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := &cobra.Command{
		Use:           "rig",
		Short:         "Stand-ins for VMware's installer, for MAAS and for a machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newISOCommand(), newMAASCommand(), newListCommand(), newDeployCommand())
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		os.Exit(1)
	}
}
