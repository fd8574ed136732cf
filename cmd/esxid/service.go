package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/bus/client"
	"github.com/esxid/esxid/internal/fault"
)

// What the commands that talk to the service have in common.

// withState calls f with the state of the service.
func withState(ctx context.Context, f func(*client.Client, *client.State) error) error {
	c, err := client.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	state, err := c.State(ctx)
	if err != nil {
		return err
	}
	return f(c, state)
}

// withBuild calls f with the build that an argument stands for.
func withBuild(ctx context.Context, which string, f func(*client.Client, *client.State, client.Build) error) error {
	return withState(ctx, func(c *client.Client, state *client.State) error {
		b, err := findBuild(state.Builds, which)
		if err != nil {
			return err
		}
		return f(c, state, b)
	})
}

// stopped says whether an error is that the service is not running, on a bus that is.
func stopped(err error) bool {
	return fault.ClassOf(err) == fault.Unavailable && !errors.Is(err, client.ErrBusClosed)
}

// findBuild returns the build whose id is, or alone begins with, what was typed.
func findBuild(builds []client.Build, which string) (client.Build, error) {
	var like []client.Build
	for _, b := range builds {
		if b.ID == which {
			return b, nil
		}
		if which != "" && strings.HasPrefix(b.ID, which) {
			like = append(like, b)
		}
	}
	switch len(like) {
	case 0:
		return client.Build{}, fault.New(fault.Usage, "there is no build %q (see: esxid list)", which)
	case 1:
		return like[0], nil
	}
	var ids []string
	for _, b := range like {
		ids = append(ids, b.ID)
	}
	return client.Build{}, fault.New(fault.Usage, "%q is the beginning of several builds: %s", which, strings.Join(ids, ", "))
}

// completeLimit bounds how long a shell waits for a completion.
const completeLimit = 2 * time.Second

// completeBuilds completes the ids of those builds that fit, and with names also what
// they are called.
func completeBuilds(fits func(client.Build) bool, names bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
		defer cancel()
		var out []cobra.Completion
		// A shell has no place for an error: without the service nothing is completed.
		_ = withState(ctx, func(_ *client.Client, state *client.State) error {
			for _, b := range state.Builds {
				if !fits(b) {
					continue
				}
				out = append(out, cobra.CompletionWithDesc(b.ID, b.Name+", "+b.State))
				if names && !slices.Contains(out, b.Name) {
					out = append(out, b.Name)
				}
			}
			return nil
		})
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func anyBuild(client.Build) bool { return true }

// table prints rows: on a terminal in columns under a header, and no wider than it is;
// elsewhere one line each with tabs between the fields, for cut and awk.
func table(w io.Writer, header []string, rows [][]string) error {
	width, isTerminal := terminalWidth(w)
	if s, ok := w.(*sized); ok {
		width, isTerminal = s.width, s.width > 0
	}
	if !isTerminal {
		for _, row := range rows {
			if _, err := fmt.Fprintln(w, strings.Join(cells(row), "\t")); err != nil {
				return err
			}
		}
		return nil
	}
	return columns(w, width, append([][]string{header}, rows...))
}

// columns prints rows of which all fields but the last are as wide as the widest.
func columns(w io.Writer, width int, rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for i, row := range rows {
		rows[i] = cells(row)
		for n, field := range rows[i] {
			widths[n] = max(widths[n], len(field))
		}
	}
	for _, row := range rows {
		line := ""
		for n, field := range row[:len(row)-1] {
			line += fmt.Sprintf("%-*s  ", widths[n], field)
		}
		line += row[len(row)-1]
		if _, err := fmt.Fprintln(w, strings.TrimRight(clip(line, max(20, width)), " ")); err != nil {
			return err
		}
	}
	return nil
}

// cells makes fields safe for a line of a terminal or a table.
func cells(row []string) []string {
	out := make([]string, len(row))
	for i, field := range row {
		out[i] = progressText(field)
	}
	return out
}

// buildProgress says in a few words what a build is doing, or how it ended.
func buildProgress(b client.Build, now time.Time) string {
	var parts []string
	switch {
	case b.Step != "" && b.Progress != nil:
		parts = append(parts, fmt.Sprintf("%s %.0f %%", b.Step, *b.Progress))
	case b.Step != "":
		parts = append(parts, b.Step)
	}
	if left := b.ExpectedEnd.Sub(now); !b.ExpectedEnd.IsZero() && left > 0 {
		parts = append(parts, formatLeft(left)+" left")
	}
	switch {
	case b.QueuePosition > 0 && b.NextTry.After(now):
		parts = append(parts, "next try "+formatTime(b.NextTry, now))
	case b.QueuePosition > 0:
		parts = append(parts, fmt.Sprintf("waits, number %d", b.QueuePosition))
	case !b.Current && b.Result == "":
		parts = append(parts, "no longer wanted")
	}
	if b.Error != nil {
		parts = append(parts, b.Error.Message)
	} else if b.Result != "" && !b.Finished.IsZero() {
		parts = append(parts, formatTime(b.Finished, now))
	}
	return strings.Join(parts, ", ")
}

// formatLeft says about how long something takes: 40 s, 4 min, 2 h.
func formatLeft(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(max(1, d.Round(time.Second)/time.Second)))
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	}
	return fmt.Sprintf("%d h", int(d.Round(time.Hour)/time.Hour))
}

// formatTime writes a time in the local zone, without the date if it is today's.
func formatTime(t client.Time, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	local := t.Local()
	if y, m, d := now.Local().Date(); local.Year() == y && local.Month() == m && local.Day() == d {
		return local.Format("15:04:05")
	}
	return local.Format("2006-01-02 15:04")
}
