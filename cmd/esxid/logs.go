package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/internal/bus/client"
	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

func newLogsCommand() *cobra.Command {
	var l logs
	cmd := &cobra.Command{
		Use:   "logs [-f] [--console] [--json] BUILD",
		Short: "Show what happened to a build",
		Long:  "logs prints what the journal has about a build. With --console it prints the installer's\nlog instead. -f goes on until the build has ended.",
		Args:  exactly(1, "one build"),

		ValidArgsFunction: completeBuilds(anyBuild, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return withBuild(ctx, args[0], func(c *client.Client, _ *client.State, b client.Build) error {
				l.client, l.build, l.out, l.messages = c, b.ID, cmd.OutOrStdout(), cmd.ErrOrStderr()
				if l.console {
					return l.showConsole(ctx)
				}
				return l.showJournal(ctx)
			})
		},
	}
	cmd.Flags().BoolVarP(&l.follow, "follow", "f", false, "go on until the build has ended")
	cmd.Flags().BoolVar(&l.console, "console", false, "the installer's log")
	cmd.Flags().BoolVar(&l.asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// logs is one call of esxid logs.
type logs struct {
	follow, console, asJSON bool

	client   *client.Client
	build    string
	out      io.Writer
	messages io.Writer
	cursor   string // of the last journal entry that was printed
}

// ended says whether the build is as it will stay, if nobody asks for something else. A service
// that is being restarted or upgraded goes on with the build when it is back.
func (l *logs) ended(ctx context.Context) (bool, error) {
	state, err := l.client.State(ctx)
	switch {
	case err != nil && l.follow && stopped(err):
		return false, nil
	case err != nil:
		return false, err
	}
	b, err := findBuild(state.Builds, l.build)
	return err != nil || b.Result != "" || !b.Current && b.Step == "", nil
}

// entry is a line of the journal as --json prints it.
type entry struct {
	Time     time.Time `json:"time"`
	Priority int       `json:"priority"` // as in syslog(3): 3 error, 4 warning, 6 information
	Step     string    `json:"step"`     // "": not about a step
	Message  string    `json:"message"`
}

// showJournal prints the build's journal. What is written between the build's end and that of
// following is read afterwards.
func (l *logs) showJournal(ctx context.Context) error {
	if !l.follow {
		err := l.journal(ctx)
		if err == nil && l.cursor == "" {
			_, err = fmt.Fprintln(l.messages, "The journal has nothing about this build that you may read: root and the groups adm and systemd-journal may read all of it.")
		}
		return err
	}
	changes, err := l.client.Changes()
	if err != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	followed := make(chan error, 1)
	go func() { followed <- l.journal(following, "--follow", "--lines=all") }()
	for {
		ended, err := l.ended(ctx)
		if ended || err != nil {
			stop()
			if failed := <-followed; err == nil && !errors.Is(failed, context.Canceled) {
				err = failed
			}
			if err != nil {
				return err
			}
			if l.cursor != "" {
				return l.journal(ctx, "--after-cursor="+l.cursor)
			}
			return l.journal(ctx)
		}
		select {
		case <-ctx.Done():
			return nil // that is how following ends
		case err := <-followed:
			return err
		case _, ok := <-changes:
			if !ok {
				return fault.As(fault.Unavailable, client.ErrBusClosed)
			}
		}
	}
}

// journal prints what journalctl says about the build: what the service said of it, and what its
// steps did in units of their own.
func (l *logs) journal(ctx context.Context, more ...string) error {
	r, w := io.Pipe()
	args := append([]string{"--quiet", "--no-pager", "--output=json", "--all"}, more...)
	args = append(args, "ESXID_BUILD="+l.build,
		"+", "_SYSTEMD_UNIT=esxid-install@"+l.build+".service", "+", "_SYSTEMD_UNIT=esxid-customize@"+l.build+".service")
	p, err := command.Start(ctx, command.Cmd{Name: "journalctl", Args: args, Stdout: w})
	if err != nil {
		return err
	}
	go func() { w.CloseWithError(p.Wait()) }()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := l.print(lines.Bytes()); err != nil {
			p.Kill()
			r.Close()
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		r.Close()
		return fmt.Errorf("cannot read the journal: %w", err)
	}
	return nil
}

// print prints one entry of the journal.
func (l *logs) print(line []byte) error {
	var raw map[string]any
	if err := json.Unmarshal(line, &raw); err != nil {
		return fmt.Errorf("cannot understand journalctl: %w", err)
	}
	field := func(name string) string { return journalText(raw[name]) }
	l.cursor = field("__CURSOR")
	usec, _ := strconv.ParseInt(field("__REALTIME_TIMESTAMP"), 10, 64)
	priority, err := strconv.Atoi(field("PRIORITY"))
	if err != nil {
		priority = 6
	}
	e := entry{Time: time.UnixMicro(usec).UTC(), Priority: priority, Step: field("ESXID_STEP"), Message: field("MESSAGE")}
	if l.asJSON {
		return json.NewEncoder(l.out).Encode(e)
	}
	_, err = fmt.Fprintf(l.out, "%s %s\n", e.Time.Local().Format("2006-01-02 15:04:05"), progressText(e.Message))
	return err
}

// journalText is a field as journalctl's JSON has it: text, numbers where the bytes are no text,
// or several of these, of which the last counts.
func journalText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var bytes []byte
		for _, part := range v {
			number, ok := part.(float64)
			if !ok {
				return journalText(v[len(v)-1])
			}
			bytes = append(bytes, byte(number))
		}
		return string(bytes)
	}
	return ""
}

// showConsole prints the installer's log, and with -f what is added to it, whenever the service says
// that the build has got on.
func (l *logs) showConsole(ctx context.Context) error {
	if l.asJSON {
		return fault.New(fault.Usage, "the installer's log has no --json: it is text")
	}
	var changes <-chan struct{}
	if l.follow {
		var err error
		if changes, err = l.client.Changes(); err != nil {
			return err
		}
	}
	var console io.ReadCloser
	defer func() {
		if console != nil {
			console.Close()
		}
	}()
	for {
		// First, so that what is written before the end is read after it is known.
		ended, err := l.ended(ctx)
		if err != nil {
			return err
		}
		if console == nil {
			console, err = l.openConsole(ctx, l.follow && !ended)
			if err != nil {
				return err
			}
		}
		if console != nil {
			if _, err := io.Copy(l.out, &cleaned{console}); err != nil {
				return fmt.Errorf("cannot print the installer's log: %w", err)
			}
		}
		if ended || !l.follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok {
				return fault.As(fault.Unavailable, client.ErrBusClosed)
			}
		}
	}
}

// openConsole opens the log; nil if there is none yet and it may still come.
func (l *logs) openConsole(ctx context.Context, mayCome bool) (io.ReadCloser, error) {
	f, err := l.client.Console(ctx, l.build)
	switch {
	case err == nil:
		return f, nil
	case mayCome && (fault.ClassOf(err) == fault.TryLater || stopped(err)):
		return nil, nil
	}
	return nil, err
}

// cleaned is a text without what a terminal would act on. A serial line ends its lines
// with CR and LF, of which LF is enough; beyond ASCII there are controls again, alone and
// in UTF-8.
type cleaned struct{ r io.Reader }

func (c *cleaned) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	kept := p[:0]
	for _, b := range p[:n] {
		switch {
		case b == '\r':
			continue
		case b < 0x20 && b != '\n' && b != '\t' || b >= 0x7f:
			b = '?'
		}
		kept = append(kept, b)
	}
	return len(kept), err
}
