package units

import (
	"sync"

	"github.com/godbus/dbus/v5"
)

// mailbox holds the signals of a connection in their order. When the answer to a
// call is there, so are all signals that were sent before it; that is what the
// handlers of the dbus package do not promise.
type mailbox struct {
	mu      sync.Mutex
	signals []*dbus.Signal
	closed  bool
	news    chan struct{} // capacity 1: "look again"
}

func newMailbox() *mailbox { return &mailbox{news: make(chan struct{}, 1)} }

// DeliverSignal takes a signal; the connection calls it.
func (m *mailbox) DeliverSignal(_, _ string, s *dbus.Signal) {
	m.change(func() { m.signals = append(m.signals, s) })
}

// Terminate is called when the connection is closed.
func (m *mailbox) Terminate() {
	m.change(func() { m.closed = true })
}

func (m *mailbox) change(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// take empties the mailbox, and says whether the connection is closed.
func (m *mailbox) take() (signals []*dbus.Signal, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	signals, m.signals = m.signals, nil
	return signals, m.closed
}
