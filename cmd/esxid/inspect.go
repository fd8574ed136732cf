package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/iso"
)

// inspection is what inspect prints; the JSON names are a contract.
type inspection struct {
	iso.Info
	Name  string `json:"name"`
	Title string `json:"title"`
}

func newInspectCommand() *cobra.Command {
	var configPath string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [--config FILE] [--json] ISO",
		Short: "Identify an installer ISO",
		Long:  "inspect reads an installer ISO's own metadata and prints what it is and how its\nimage would be called in MAAS. A file that is not an ESXi installer, is cut short\nor contradicts itself is refused with the reason.",
		Args:  exactly(1, "one ISO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(configPath)
			if err != nil {
				return err
			}
			info, warnings, err := identify(cmd.Context(), args[0], nil)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "esxid: warning: "+printable(w))
			}
			out := inspection{Info: info}
			if out.Name, out.Title, err = build.Name(cfg, info); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), out)
			}
			return writeFields(cmd.OutOrStdout(), out)
		},
	}
	cmd.Flags().StringVar(&configPath, "config", "", "configuration file, for the naming templates")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// identify reads everything there is to know about an ISO, its hash included.
func identify(ctx context.Context, path string, progress func(done, total int64)) (iso.Info, []string, error) {
	img, err := iso.Open(resolve(path))
	if err != nil {
		return iso.Info{}, nil, err
	}
	defer img.Close()
	info, warnings, err := iso.Identify(ctx, img)
	if err == nil {
		info.SHA256, err = img.SHA256(ctx, progress)
	}
	// What was read of a file that changed meanwhile says nothing, good or bad.
	if changed := img.Unchanged(); changed != nil {
		return info, nil, changed
	}
	return info, warnings, err
}

// resolve follows symbolic links: here somebody typed the name, unlike in the
// drop directory, where a link is refused. What cannot be followed is left for
// iso.Open to refuse.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
