package debianvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/esxid/esxid/test/debianvm/wire"
)

// Command is a script for the machine's bash.
type Command struct {
	Script string
	User   string        // default root
	Limit  time.Duration // default one minute
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	ExitCode       int
}

// ErrRebooted is the error of a command that a reboot of the machine ended.
var ErrRebooted = errors.New("the machine rebooted")

// guest is this end of the wire.
type guest struct {
	conn       net.Conn
	transcript io.Writer
	began      time.Time

	mu      sync.Mutex    // guards what follows, and writing to conn and transcript
	boot    string        // the boot that takes commands
	changed chan struct{} // closed and replaced with every new boot, and when the machine ends
	lost    error
	lastID  int
	waiting map[int]chan wire.Reply // a closed channel: the machine rebooted or ended
}

func newGuest(conn net.Conn, transcript io.Writer) *guest {
	g := &guest{conn: conn, transcript: transcript, began: time.Now(), changed: make(chan struct{}), waiting: map[int]chan wire.Reply{}}
	go g.read()
	return g
}

// read hands out what the agent says until the connection ends.
func (g *guest) read() {
	for in := json.NewDecoder(g.conn); ; {
		var r wire.Reply
		err := in.Decode(&r)
		g.mu.Lock()
		switch {
		case err != nil:
			g.lost = fmt.Errorf("the machine has ended: %w", err)
			g.drop()
			g.mu.Unlock()
			return
		case r.Boot != "":
			fmt.Fprintf(g.transcript, "[%7.1f] booted: %s\n\n", time.Since(g.began).Seconds(), r.Boot)
			g.boot = r.Boot
			g.drop()
		case g.waiting[r.ID] != nil:
			g.waiting[r.ID] <- r
			delete(g.waiting, r.ID)
		}
		g.mu.Unlock()
	}
}

// drop ends the commands of an earlier boot and tells those who wait for one.
func (g *guest) drop() {
	for id, w := range g.waiting {
		close(w)
		delete(g.waiting, id)
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *guest) booted(ctx context.Context, before string) (string, error) {
	for {
		g.mu.Lock()
		boot, changed, lost := g.boot, g.changed, g.lost
		g.mu.Unlock()
		if lost != nil || boot != "" && boot != before {
			return boot, lost
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-changed:
		}
	}
}

func (g *guest) run(ctx context.Context, c Command) (Result, error) {
	if c.Limit == 0 {
		c.Limit = time.Minute
	}
	if c.User == "" {
		c.User = "root"
	}
	began := time.Now()
	reply, err := g.ask(c)
	if err != nil {
		return Result{}, err
	}
	// The agent keeps to the limit; that it does not answer at all is worse.
	patience := time.NewTimer(c.Limit + time.Minute)
	defer patience.Stop()
	var r wire.Reply
	var ok bool
	select {
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-patience.C:
		err = errors.New("the machine does not answer")
	case r, ok = <-reply:
		switch {
		case !ok:
			err = ErrRebooted
		case r.TimedOut:
			err = fmt.Errorf("not done after %v", c.Limit)
		case r.Error != "":
			err = errors.New(r.Error)
		}
	}
	result := Result{Stdout: string(r.Stdout), Stderr: string(r.Stderr), ExitCode: r.ExitCode}
	g.note(c, began, result, err)
	if err != nil {
		err = fmt.Errorf("%w: %s\n%s%s", err, c.Script, result.Stdout, result.Stderr)
	}
	return result, err
}

// ask sends a command and returns where its reply will come.
func (g *guest) ask(c Command) (<-chan wire.Reply, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost != nil {
		return nil, g.lost
	}
	g.lastID++
	text, err := json.Marshal(wire.Command{ID: g.lastID, Script: c.Script, User: c.User, Seconds: c.Limit.Seconds()})
	if err != nil {
		return nil, err
	}
	if _, err := g.conn.Write(append(text, '\n')); err != nil {
		return nil, err
	}
	reply := make(chan wire.Reply, 1)
	g.waiting[g.lastID] = reply
	return reply, nil
}

// note writes a command and what came of it to the transcript.
func (g *guest) note(c Command, began time.Time, r Result, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(g.transcript, "[%7.1f] %s: %s\n", began.Sub(g.began).Seconds(), c.User, strings.TrimSpace(c.Script))
	for _, s := range []string{r.Stdout, r.Stderr} {
		if s = strings.TrimRight(s, "\n"); s != "" {
			fmt.Fprintln(g.transcript, s)
		}
	}
	if err != nil {
		fmt.Fprintf(g.transcript, "(%v", err)
	} else {
		fmt.Fprintf(g.transcript, "(exit code %d", r.ExitCode)
	}
	fmt.Fprintf(g.transcript, ", %.1f s)\n\n", time.Since(began).Seconds())
}
