package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/bus/client"
	"github.com/esxid/esxid/internal/fault"
)

func newShowCommand() *cobra.Command {
	var asJSON bool
	var screen string
	cmd := &cobra.Command{
		Use:   "show [--json] [--screen FILE] BUILD",
		Short: "Show all about a build",
		Long:  "show prints what a build is made of, what its steps took, its image, where it is\npublished and, if it failed, why. BUILD is the build's id, or a beginning of it that no\nother has. --screen also writes what the installer's screen shows now to a PNG file.",
		Args:  exactly(1, "one build"),

		ValidArgsFunction: completeBuilds(anyBuild, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBuild(cmd.Context(), args[0], func(c *client.Client, state *client.State, b client.Build) error {
				if screen != "" {
					if err := saveScreen(cmd.Context(), c, b, screen); err != nil {
						return err
					}
				}
				s := shown{Build: b}
				if i := slices.IndexFunc(state.Images, func(i client.Image) bool { return i.ID == b.Image }); i >= 0 {
					s.Image = &state.Images[i]
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), s)
				}
				return s.write(cmd.OutOrStdout(), time.Now())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&screen, "screen", "", "write the installer's screen to this PNG file")
	return cmd
}

// shown is a build with its image, as show prints it.
type shown struct {
	client.Build
	Image *client.Image `json:"image"` // null: none
}

func (s shown) write(w io.Writer, now time.Time) error {
	state, progress := buildState(s.Build), buildProgress(s.Build, now)
	if progress == formatTime(s.Finished, now) {
		progress = "" // it has a line of its own
	}
	lines := [][]string{
		{"Build:", s.ID}, {"Name:", s.Name}, {"Title:", s.Title}, {"ISO:", s.Product + " " + isoOf(s.Build)}, {"ISO sha256:", s.ISOSHA256},
		{"Kickstart:", strings.Join(s.Kickstart, ", ")},
		{"State:", state}, {"", progress}, {"", s.Message},
		{"Queued:", formatTime(s.Queued, now)}, {"Started:", formatTime(s.Started, now)}, {"Finished:", formatTime(s.Finished, now)},
	}
	for i, step := range s.Steps {
		text := fmt.Sprintf("%-*s %8s", stepColumn, step.Name, formatDuration(seconds(step.Seconds)))
		if step.Note != "" {
			text += "  " + step.Note
		}
		lines = append(lines, []string{label("Steps:", i), text})
	}
	if s.Image != nil {
		lines = append(lines,
			[]string{"Image:", s.Image.Path}, []string{"", fmt.Sprintf("%s, %s on a host's disk", formatBytes(float64(s.Image.PackedSize)), formatBytes(float64(s.Image.RawSize)))},
			[]string{"", "sha256 " + s.Image.SHA256})
	}
	for i, target := range slices.Sorted(maps.Keys(s.Published)) {
		lines = append(lines, []string{label("Published:", i), target + ": " + s.Published[target]})
	}
	for _, line := range lines {
		if line[1] == "" || line[1] == "-" {
			continue
		}
		// No cells: a step's line has columns of its own.
		if _, err := fmt.Fprintf(w, "%-11s %s\n", line[0], printable(line[1])); err != nil {
			return err
		}
	}
	return nil
}

// label is the name of the first of several lines.
func label(name string, i int) string {
	if i > 0 {
		return ""
	}
	return name
}

// saveScreen writes a picture of the screen of a build's installer to a file, which appears
// whole or not at all.
func saveScreen(ctx context.Context, c *client.Client, b client.Build, path string) error {
	picture, err := c.Screenshot(ctx, b.ID)
	if err != nil {
		return err
	}
	defer picture.Close()
	out, err := os.CreateTemp(filepath.Dir(path), ".screen-*")
	if err == nil {
		defer os.Remove(out.Name()) // fails once it has its name
		_, err = io.Copy(out, picture)
	}
	if err == nil {
		err = out.Close()
	}
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		return fault.New(fault.CannotWrite, "cannot write the screen to %s: %w", path, err)
	}
	return nil
}
