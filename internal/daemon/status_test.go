package daemon

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// When all is done the service manager must not go on showing the last step.
func TestStatusWhenIdle(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	r := newRig(t, t.TempDir())
	r.addISO("6.7.0", "8169922")
	r.run()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for last := ""; last != "STATUS=Waiting for ISOs · 1 published"; {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%v; the last status was %q", err, last)
		}
		if text := string(buf[:n]); strings.HasPrefix(text, "STATUS=") {
			last = text
		}
	}
}
