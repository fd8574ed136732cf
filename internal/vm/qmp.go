package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A client for the QEMU Machine Protocol (qemu: docs/interop/qmp-spec.txt):
// JSON objects in both directions; a reply carries the id of its command, events
// come in between.

const (
	maxQMPMessage   = 1 << 20 // bytes; a query-blockstats reply has a few thousand
	qmpEventBacklog = 64
	qmpWriteTimeout = 10 * time.Second
)

var errQMPTooLong = fmt.Errorf("QMP message is larger than %d bytes", maxQMPMessage)

// qmp is a connection to QEMU's monitor. Its methods may be called from several
// goroutines.
type qmp struct {
	// events carries the wanted events in order. It is closed when the
	// connection ends, which it does at the latest with QEMU. It is never waited
	// on: what does not fit is dropped, so that a guest that causes events
	// cannot block replies.
	events chan qmpEvent

	conn   net.Conn
	wanted []string

	mu      sync.Mutex
	lastID  uint64
	pending map[uint64]chan qmpMessage
	closed  error // why the connection ended; nil while it is up
}

type qmpEvent struct {
	Name string
	Data json.RawMessage
}

// qmpMessage is any message from QEMU; which fields are set says what it is.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	Data     json.RawMessage `json:"data"`
	Return   json.RawMessage `json:"return"`
	Error    *qmpError       `json:"error"`
	ID       *uint64         `json:"id"`
}

// qmpError is QEMU's refusal of a command.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Desc }

// newQMP reads QEMU's greeting and leaves the negotiation mode. It owns conn
// from then on, also when it fails. Events that are not wanted are ignored.
func newQMP(ctx context.Context, conn net.Conn, wanted ...string) (*qmp, error) {
	q := &qmp{
		events:  make(chan qmpEvent, qmpEventBacklog),
		conn:    conn,
		wanted:  wanted,
		pending: map[uint64]chan qmpMessage{},
	}
	in := &budget{r: conn}
	dec := json.NewDecoder(in)

	// A context that ends closes the connection under the waiting reader.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	var greeting qmpMessage
	in.left = maxQMPMessage
	err := dec.Decode(&greeting)
	if err == nil && greeting.Greeting == nil {
		err = errors.New("the first message is no greeting")
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot talk QMP to QEMU: %w", err)
	}
	go q.receive(dec, in)
	if err := q.execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// execute runs a command and decodes what it returns into result, unless that
// is nil. The error of a command that QEMU refused wraps *qmpError.
func (q *qmp) execute(ctx context.Context, command string, arguments, result any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("QMP command %s: %w", command, err)
		}
	}()
	reply := make(chan qmpMessage, 1)
	q.mu.Lock()
	if q.closed != nil {
		q.mu.Unlock()
		return q.closed
	}
	q.lastID++
	id := q.lastID
	q.pending[id] = reply
	err = q.send(id, command, arguments)
	q.mu.Unlock()
	defer q.forget(id)
	if err != nil {
		return err
	}

	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case m, ok := <-reply:
		switch {
		case !ok:
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.closed
		case m.Error != nil:
			return m.Error
		case result == nil:
			return nil
		}
		return json.Unmarshal(m.Return, result)
	}
}

// send writes one command. A command is a few hundred bytes, which fit the
// socket's buffer unless QEMU has not read for long.
func (q *qmp) send(id uint64, command string, arguments any) error {
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return err
	}
	if err := q.conn.SetWriteDeadline(time.Now().Add(qmpWriteTimeout)); err != nil {
		return err
	}
	if _, err = q.conn.Write(append(b, '\n')); err != nil {
		q.conn.Close() // half a command may be on its way
	}
	return closedError(err)
}

func (q *qmp) forget(id uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.pending, id)
}

// receive hands out what QEMU sends until the connection ends.
func (q *qmp) receive(dec *json.Decoder, in *budget) {
	var err error
	for err == nil {
		var m qmpMessage
		in.left = maxQMPMessage
		if err = dec.Decode(&m); err == nil {
			err = q.dispatch(m)
		}
	}
	q.conn.Close()

	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = closedError(err)
	for _, reply := range q.pending {
		close(reply)
	}
	clear(q.pending)
	close(q.events)
}

// closedError says in one way what a connection's end is called in many.
func closedError(err error) error {
	for _, end := range []error{io.EOF, net.ErrClosed, io.ErrClosedPipe, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return errors.New("QEMU closed the connection")
		}
	}
	return err
}

func (q *qmp) dispatch(m qmpMessage) error {
	switch {
	case m.Event != "":
		if slices.Contains(q.wanted, m.Event) {
			select {
			case q.events <- qmpEvent{m.Event, m.Data}:
			default:
			}
		}
	case m.ID != nil:
		q.mu.Lock()
		defer q.mu.Unlock()
		// Nobody waits for the reply to a command that was given up.
		if reply, ok := q.pending[*m.ID]; ok {
			delete(q.pending, *m.ID)
			reply <- m
		}
	case m.Error != nil: // QEMU could not even read a command
		return m.Error
	}
	return nil
}

func (q *qmp) close() { q.conn.Close() }

// budget bounds how much is read before left is set again: json.Decoder itself
// would buffer a message of any size.
type budget struct {
	r    io.Reader
	left int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errQMPTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
