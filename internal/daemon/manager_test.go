package daemon

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager stands for systemd: it reads what the service notifies, at once, as the
// service would otherwise wait for it.
type manager struct {
	t   *testing.T
	got chan string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	m := &manager{t, make(chan string, 10_000)}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 8192)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.got <- string(buf[:n])
		}
	}()
	return m
}

// next returns one notification, or "" if there is none for a time.
func (m *manager) next(wait time.Duration) string {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case text := <-m.got:
		return text
	case <-timer.C:
		return ""
	}
}

// until reads up to a notification that has a text in it, and returns it.
func (m *manager) until(text string) string {
	m.t.Helper()
	last := "nothing"
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		got := m.next(time.Until(deadline))
		if strings.Contains(got, text) {
			return got
		}
		if got != "" {
			last = got
		}
	}
	m.t.Fatalf("%q was not notified; the last was %q", text, last)
	return ""
}

// drain forgets what was notified so far.
func (m *manager) drain() {
	for len(m.got) > 0 {
		<-m.got
	}
}
