package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// peer plays QEMU's side of a connection.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Scanner
}

func (p peer) send(message string) {
	if _, err := io.WriteString(p.conn, message+"\r\n"); err != nil {
		p.t.Errorf("QEMU's side cannot send: %v", err)
	}
}

// expect reads a command and returns its id.
func (p peer) expect(command string) uint64 {
	var c struct {
		Execute string
		ID      uint64
	}
	if !p.in.Scan() {
		p.t.Errorf("no command came, want %s", command)
	} else if err := json.Unmarshal(p.in.Bytes(), &c); err != nil || c.Execute != command {
		p.t.Errorf("command %s (%v), want %s", p.in.Bytes(), err, command)
	}
	return c.ID
}

func (p peer) reply(command, result string) {
	p.send(fmt.Sprintf(`{"return": %s, "id": %d}`, result, p.expect(command)))
}

// dial connects a client to a QEMU that greets and then plays its part.
func dial(t *testing.T, part func(peer), wanted ...string) *qmp {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		p := peer{t, theirs, bufio.NewScanner(theirs)}
		p.send(greeting)
		p.reply("qmp_capabilities", "{}")
		part(p)
	}()
	q, err := newQMP(t.Context(), ours, wanted...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.close()
		<-done
	})
	return q
}

func TestQMPCommand(t *testing.T) {
	q := dial(t, func(p peer) {
		p.reply("query-status", `{"status": "running", "running": true}`)
		p.send(fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "no such file"}, "id": %d}`, p.expect("screendump")))
	})
	var status struct{ Status string }
	if err := q.execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
		t.Errorf("status = %+v, %v", status, err)
	}
	err := q.execute(t.Context(), "screendump", map[string]string{"filename": "/x"}, nil)
	var refusal *qmpError
	if !errors.As(err, &refusal) || refusal.Class != "GenericError" || err.Error() != "QMP command screendump: no such file" {
		t.Errorf("err = %v", err)
	}
}

func TestQMPRepliesOutOfOrder(t *testing.T) {
	q := dial(t, func(p peer) {
		first := p.expect("query-name")
		second := p.expect("query-name")
		p.send(`{"return": {"name": "stale"}, "id": 4711}`)
		p.send(fmt.Sprintf(`{"return": {"name": "%d"}, "id": %[1]d}`, second))
		p.send(fmt.Sprintf(`{"return": {"name": "%d"}, "id": %[1]d}`, first))
	})
	names := make(chan string, 2)
	for range 2 {
		go func() {
			var result struct{ Name string }
			if err := q.execute(t.Context(), "query-name", nil, &result); err != nil {
				t.Error(err)
			}
			names <- result.Name
		}()
	}
	if a, b := <-names, <-names; a == b || a == "stale" || b == "stale" {
		t.Errorf("replies %q and %q, want one for each command", a, b)
	}
}

func TestQMPEvents(t *testing.T) {
	q := dial(t, func(p peer) {
		p.send(`{"event": "RTC_CHANGE", "data": {"offset": 1}, "timestamp": {"seconds": 1, "microseconds": 2}}`)
		id := p.expect("quit")
		p.send(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}`)
		p.send(fmt.Sprintf(`{"return": {}, "id": %d}`, id))
		p.send(`{"event": "STOP"}`)
	}, "SHUTDOWN", "STOP")
	if err := q.execute(t.Context(), "quit", nil, nil); err != nil {
		t.Error(err)
	}
	event := <-q.events
	if guest, reason := shutdownReason(event.Data); event.Name != "SHUTDOWN" || !guest || reason != "guest-reset" {
		t.Errorf("event = %s %s", event.Name, event.Data)
	}
	if event := <-q.events; event.Name != "STOP" {
		t.Errorf("event = %s", event.Name)
	}
	if _, ok := <-q.events; ok {
		t.Error("the channel is still open after the connection's end")
	}
}

func TestQMPEventsDoNotBlockReplies(t *testing.T) {
	q := dial(t, func(p peer) {
		for range 10 * qmpEventBacklog {
			p.send(`{"event": "STOP"}`)
		}
		p.reply("query-status", `{}`)
	}, "STOP")
	if err := q.execute(t.Context(), "query-status", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestQMPConnectionEnds(t *testing.T) {
	for want, part := range map[string]func(peer){
		"QEMU closed the connection": func(p peer) { p.expect("cont") },
		"unexpected EOF":             func(p peer) { p.expect("cont"); io.WriteString(p.conn, `{"return"`) },
		"invalid character":          func(p peer) { p.expect("cont"); p.send("qemu: oops") },
		"larger than":                func(p peer) { p.expect("cont"); flood(p.conn) },
		"JSON parse error":           func(p peer) { p.expect("cont"); p.send(`{"error": {"desc": "JSON parse error"}}`) },
	} {
		t.Run(want, func(t *testing.T) {
			q := dial(t, part, "STOP")
			// Both the waiting command and later ones get the reason.
			for range 2 {
				if err := q.execute(t.Context(), "cont", nil, nil); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("err = %v, want %q", err, want)
				}
			}
			if _, ok := <-q.events; ok {
				t.Error("an event came from a dead connection")
			}
		})
	}
}

// flood sends one endless message, until the other side has enough.
func flood(conn net.Conn) {
	chunk := strings.Repeat("[", 1<<10)
	if _, err := io.WriteString(conn, `{"return": "`); err != nil {
		return
	}
	for {
		if _, err := io.WriteString(conn, chunk); err != nil {
			return
		}
	}
}

func TestQMPContext(t *testing.T) {
	asked := make(chan struct{})
	q := dial(t, func(p peer) {
		id := p.expect("screendump")
		close(asked)
		// The late reply to the command that was given up confuses nobody.
		p.send(fmt.Sprintf(`{"return": {"name": "late"}, "id": %d}`, id))
		p.reply("query-name", `{"name": "right"}`)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(errors.New("enough"))
	}()
	// The reply may still win; then there is no error.
	if err := q.execute(ctx, "screendump", nil, nil); err != nil && err.Error() != "QMP command screendump: enough" {
		t.Errorf("err = %v", err)
	}
	var result struct{ Name string }
	if err := q.execute(t.Context(), "query-name", nil, &result); err != nil || result.Name != "right" {
		t.Errorf("result = %+v, %v", result, err)
	}
}

func TestQMPNoGreeting(t *testing.T) {
	const short, long = 50 * time.Millisecond, time.Minute
	for name, tt := range map[string]struct {
		send, want string
		limit      time.Duration
	}{
		"silent":       {"", "no answer", short},
		"not a QEMU":   {`{"hello": 1}`, "no greeting", long},
		"not JSON":     {"SSH-2.0-OpenSSH", "invalid character", long},
		"not accepted": {greeting, "no answer", short},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			defer theirs.Close()
			go func() {
				_, _ = io.WriteString(theirs, tt.send)
				_, _ = io.Copy(io.Discard, theirs)
			}()
			ctx, cancel := context.WithTimeoutCause(t.Context(), tt.limit, errors.New("no answer"))
			defer cancel()
			if _, err := newQMP(ctx, ours); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
			// The connection is closed in any case.
			if _, err := ours.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
}

// FuzzQMP sends anything: the client must come to an end and tell why.
func FuzzQMP(f *testing.F) {
	f.Add(greeting + `{"return": {}, "id": 1}{"event": "STOP"}{"return": [], "id": 2}`)
	f.Add(greeting + `{"return": {}, "id": 1}{"error": {"class": "x", "desc": "y"}, "id": 2}`)
	f.Add(greeting + `{"return": {}, "id": 1}{"return": {"a": [[[[[[{}]]]]]]}, "id": 2.5}`)
	f.Add(`{"QMP": null}`)
	f.Add(`{"event": {}, "id": -1}`)
	f.Fuzz(func(t *testing.T, input string) {
		ours, theirs := net.Pipe()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = io.WriteString(theirs, input)
			theirs.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		if q, err := newQMP(t.Context(), ours, "STOP"); err == nil {
			var result struct{ A []any }
			if err := q.execute(t.Context(), "query", nil, &result); err != nil && err.Error() == "" {
				t.Error("an error without text")
			}
			for range q.events {
			}
			q.close()
		}
		<-sent
	})
}
