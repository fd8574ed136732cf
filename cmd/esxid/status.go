package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/bus/client"
	"github.com/esxid/esxid/internal/fault"
)

func newStatusCommand() *cobra.Command {
	var watch, asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--watch] [--json]",
		Short: "Show what the service is doing",
		Long:  "status shows what the service is doing, what waits and what has failed. With --watch\nit follows that until it is interrupted; --json then prints one object a line.",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if watch {
				return watchStatus(cmd.Context(), out, asJSON)
			}
			return withState(cmd.Context(), func(_ *client.Client, state *client.State) error {
				if asJSON {
					return writeJSON(out, state)
				}
				return writeStatus(out, state, time.Now())
			})
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "follow what happens")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// writeStatus prints the service's line and the builds that are not simply done.
func writeStatus(w io.Writer, state *client.State, now time.Time) error {
	status := state.Status
	if status == "" {
		status = state.State
	}
	if _, err := fmt.Fprintf(w, "%s\n", progressText(status)); err != nil {
		return err
	}
	var rows [][]string
	for _, b := range state.Builds {
		if b.State != "done" && (b.Current || b.Step != "") {
			rows = append(rows, []string{b.ID, b.Name, b.State, buildProgress(b, now)})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return table(w, []string{"BUILD", "NAME", "STATE", "PROGRESS"}, rows)
}

// watchStatus prints the status again whenever the service says that it has changed.
func watchStatus(ctx context.Context, w io.Writer, asJSON bool) error {
	c, err := client.Connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	changes, err := c.Changes()
	if err != nil {
		return err
	}
	view := newStatusView(w, asJSON)
	for running := false; ; {
		state, err := c.State(ctx)
		switch {
		case err == nil:
			running = true
			err = view.show(state)
		case stopped(err) && running:
			// It was there: it is being restarted or upgraded.
			err = view.say("esxid is not running")
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // that is how a watch ends
		case _, ok := <-changes:
			if !ok {
				return fault.As(fault.Unavailable, client.ErrBusClosed)
			}
		}
	}
}

// statusView shows the status over and over: in place on a terminal, as a block of lines
// after each change elsewhere.
type statusView struct {
	w      io.Writer
	asJSON bool
	inline bool
	last   string
}

func newStatusView(w io.Writer, asJSON bool) *statusView {
	return &statusView{w: w, asJSON: asJSON, inline: printModeFor(w, asJSON) == printBar}
}

func (v *statusView) show(state *client.State) error {
	if v.asJSON {
		return json.NewEncoder(v.w).Encode(state)
	}
	width, _ := terminalWidth(v.w)
	var text strings.Builder
	if err := writeStatus(&sized{&text, width}, state, time.Now()); err != nil {
		return err
	}
	return v.print(text.String())
}

func (v *statusView) say(line string) error {
	if v.asJSON {
		return json.NewEncoder(v.w).Encode(map[string]string{"state": "stopped", "status": line})
	}
	return v.print(line + "\n")
}

func (v *statusView) print(text string) error {
	if text == v.last {
		return nil
	}
	v.last = text
	if v.inline {
		text = "\x1b[H\x1b[2J" + text // from the top left, on a cleared screen
	}
	_, err := io.WriteString(v.w, text)
	return err
}

// sized is text that is going to a terminal of a width; 0: to something else.
type sized struct {
	io.Writer
	width int
}
