package debianvm

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/test/debianvm/wire"
)

// agent is the other end of the wire.
type agent struct {
	*testing.T
	conn net.Conn
	in   *json.Decoder
}

func newPair(t *testing.T) (*guest, agent, *strings.Builder) {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	transcript := &strings.Builder{}
	return newGuest(here, transcript), agent{t, there, json.NewDecoder(there)}, transcript
}

func (a agent) say(r wire.Reply) {
	if err := json.NewEncoder(a.conn).Encode(r); err != nil {
		a.Error(err)
	}
}

func (a agent) hear() (c wire.Command) {
	if err := a.in.Decode(&c); err != nil {
		a.Error(err)
	}
	return c
}

// Two commands side by side get their own answers, in whatever order these come.
func TestCommands(t *testing.T) {
	g, a, transcript := newPair(t)
	a.say(wire.Reply{Boot: "first"})
	if boot, err := g.booted(t.Context(), ""); boot != "first" || err != nil {
		t.Fatalf("booted: %q, %v", boot, err)
	}
	go func() {
		one, two := a.hear(), a.hear()
		for _, c := range []wire.Command{two, one} {
			a.say(wire.Reply{ID: c.ID, Stdout: []byte(c.User + " " + c.Script), ExitCode: int(c.Seconds)})
		}
	}()
	results := make(chan Result, 1)
	go func() {
		r, _ := g.run(t.Context(), Command{Script: "one", Limit: 3 * time.Second})
		results <- r
	}()
	r, err := g.run(t.Context(), Command{Script: "two", User: "bob", Limit: 4 * time.Second})
	if want := (Result{Stdout: "bob two", ExitCode: 4}); r != want || err != nil {
		t.Errorf("two: %+v, %v", r, err)
	}
	if r, want := <-results, (Result{Stdout: "root one", ExitCode: 3}); r != want {
		t.Errorf("one: %+v", r)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if text := transcript.String(); !strings.Contains(text, "bob: two\nbob two\n(exit code 4, ") {
		t.Errorf("the transcript is\n%s", text)
	}
}

func TestReboot(t *testing.T) {
	g, a, _ := newPair(t)
	a.say(wire.Reply{Boot: "first"})
	if _, err := g.booted(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	go func() {
		a.hear()
		a.say(wire.Reply{Boot: "second"})
	}()
	if _, err := g.run(t.Context(), Command{Script: "reboot"}); !errors.Is(err, ErrRebooted) {
		t.Errorf("the command in the way of a reboot: %v", err)
	}
	if boot, err := g.booted(t.Context(), "first"); boot != "second" || err != nil {
		t.Errorf("booted: %q, %v", boot, err)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := g.booted(soon, "second"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a boot that does not come: %v", err)
	}
	a.conn.Close()
	if _, err := g.booted(t.Context(), "second"); err == nil {
		t.Error("a machine that has ended boots")
	}
	if _, err := g.run(t.Context(), Command{Script: "x"}); err == nil {
		t.Error("a machine that has ended runs a command")
	}
}

func TestCommandFailures(t *testing.T) {
	for _, tt := range []struct {
		reply wire.Reply
		want  string
	}{
		{wire.Reply{ID: 1, TimedOut: true, Stdout: []byte("so far")}, "not done after 1m0s: x\nso far"},
		{wire.Reply{ID: 1, Error: "user: unknown user eve"}, "unknown user eve: x"},
	} {
		g, a, _ := newPair(t)
		go func() {
			a.hear()
			a.say(tt.reply)
		}()
		if _, err := g.run(t.Context(), Command{Script: "x"}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.reply, err, tt.want)
		}
	}
}
