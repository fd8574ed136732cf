package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/esxid/esxid/internal/bus/client"
)

// A usage line has every option of its command, or says OPTIONS if there are many, and none
// that there is not.
func TestUsageLines(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		options := 0
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			options++
			if !strings.Contains(cmd.UseLine(), "[--"+f.Name) && !strings.Contains(cmd.UseLine(), "[-"+f.Shorthand+"]") && !strings.Contains(cmd.UseLine(), "[OPTIONS]") {
				t.Errorf("%q lacks --%s", cmd.UseLine(), f.Name)
			}
		})
		if named := strings.Count(cmd.UseLine(), "[-"); named > options || strings.Contains(cmd.UseLine(), "[flags]") {
			t.Errorf("%q has options that the command has not", cmd.UseLine())
		}
		for _, c := range cmd.Commands() {
			visit(c)
		}
	}
	visit(newRootCommand(io.Discard, io.Discard))
}

func TestBuildProgress(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	at := func(d time.Duration) client.Time { return client.Time{Time: now.Add(d)} }
	half := 49.6
	for _, tt := range []struct {
		build client.Build
		want  string
	}{
		{client.Build{Current: true, Step: "install"}, "install"},
		{client.Build{Current: true, Step: "install", Progress: &half, ExpectedEnd: at(4 * time.Minute)}, "install 50 %, 4 min left"},
		{client.Build{Current: true, Progress: &half}, ""}, // of a service of another version
		{client.Build{Current: true, QueuePosition: 2}, "waits, number 2"},
		{client.Build{Current: true, QueuePosition: 1, NextTry: at(time.Minute), Error: &client.Error{Message: "no room"}}, "next try 12:01:00, no room"},
		{client.Build{Step: "install"}, "install, no longer wanted"},
		{client.Build{Current: true, Result: "success", Finished: at(-time.Hour)}, "11:00:00"},
		{client.Build{Result: "failed", Finished: at(-time.Hour), Error: &client.Error{Message: "no disk"}}, "no disk"},
	} {
		if got := buildProgress(tt.build, now); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.build, got, tt.want)
		}
	}
}
