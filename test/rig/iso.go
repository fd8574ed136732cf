package main

import (
	"fmt"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/spf13/cobra"
)

func newISOCommand() *cobra.Command {
	var o esxisim.Options
	var out string
	cmd := &cobra.Command{
		Use:   "iso --version V [--build B] [--oem VENDOR] -o FILE",
		Short: "Make the installer ISO of a simulated ESXi",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := esxisim.BuildISO(cmd.Context(), o, out); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Version, "version", "", `ESXi version: "6.7", "7.0.3", "8.0U3e", "9.0"`)
	f.StringVar(&o.Build, "build", "", "build number (default: a known one of the version)")
	f.StringVar(&o.OEM, "oem", "", "vendor of a custom image: dell, hpe, lenovo or cisco")
	f.IntVar(&o.PayloadMiB, "payload-mib", 64, "size of all modules together")
	f.StringVarP(&out, "output", "o", "", "the ISO to write")
	for _, name := range []string{"version", "output"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that was not declared above
		}
	}
	return cmd
}
