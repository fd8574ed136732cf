package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/esxid/esxid/test/curtin"
	"github.com/spf13/cobra"
)

// deployment is one run of rig deploy.
type deployment struct {
	url, keyFile, name string // of the MAAS, of its API key, of the image
	config, disk, bus  string
	size               int64
	boot               firstBoot
}

func newDeployCommand() *cobra.Command {
	var d deployment
	cmd := &cobra.Command{
		Use:   "deploy --url URL --key-file FILE --name esxi/6.7 --curtin CONFIG.json -o DISK.raw",
		Short: "Deploy an image from MAAS to a disk, as curtin does",
		Long: `Downloads the newest complete image of that name, writes it to a disk file,
boots a small Linux with that disk (and with the other disks of the curtin
configuration, empty), and finds and runs the curtin hook there. Prints the
installation log and the partition table of the disk. Fails where curtin fails.

With --boot the disks have the identities of the hardware file, and the deployed
host is then booted with its NICs and disks: its %firstboot runs and talks to
MAAS. What became of it, and what MAAS saw, is printed as one JSON object.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.url, "url", "", "address of MAAS: http://127.0.0.1:5240/MAAS")
	f.StringVar(&d.keyFile, "key-file", "", "file with an API key")
	f.StringVar(&d.name, "name", "", "boot resource: esxi/6.7")
	f.StringVar(&d.config, "curtin", "", "curtin configuration in JSON, as MAAS makes it for ESXi")
	f.StringVarP(&d.disk, "output", "o", "", "the disk to write; what is there is replaced")
	f.Int64Var(&d.size, "disk-size", 0, "its size in bytes (default: what MAAS's partitions need)")
	f.StringVar(&d.bus, "bus", "auto", "auto (as the configuration names the disks), sata or nvme")
	d.boot.flags(f)
	for _, name := range []string{"url", "key-file", "name", "curtin", "output"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that was not declared above
		}
	}
	return cmd
}

func (d *deployment) run(ctx context.Context, out, log io.Writer) error {
	if d.bus != "auto" && d.bus != "sata" && d.bus != "nvme" {
		return fmt.Errorf("--bus %s: there are auto, sata and nvme", d.bus)
	}
	text, err := os.ReadFile(d.config)
	if err != nil {
		return err
	}
	config, err := curtin.ParseConfig(text)
	if err != nil {
		return err
	}
	target, err := config.Target()
	if err != nil {
		return err
	}
	bootSize, err := d.boot.load()
	if err != nil {
		return err
	}
	if d.size = cmp.Or(d.size, bootSize); d.size == 0 {
		d.size = target.Size
	}
	key, err := os.ReadFile(d.keyFile)
	if err != nil {
		return err
	}
	address, err := curtin.Locate(ctx, d.url, string(key), d.name)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "writing %s to %s (%s, %d bytes)\n", address, d.disk, target.Name, d.size)
	if err := curtin.Write(ctx, address, d.disk, d.size, log); err != nil {
		return err
	}
	r, err := curtin.Deployment{Config: config, Disk: d.disk, Bus: d.bus, Machine: d.boot.hardware.Disks}.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(out, r.Log)
	if r.ExitCode != 0 {
		return fmt.Errorf("the deployment failed: curtin exits with %d", r.ExitCode)
	}
	fmt.Fprintf(out, "deployed to %s, hook found on partition %d\n", d.disk, r.Partition)
	if d.boot.wanted {
		return d.boot.run(ctx, d.url, string(key), d.disk, text, out)
	}
	return nil
}
