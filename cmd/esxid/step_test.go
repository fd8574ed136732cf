package main

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// What an installer or an error says cannot be anything but the status.
func TestTellManagerOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	tellManager("cannot detach\nMAINPID=1\x1b[2J")
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b[:n]), "STATUS=cannot detach; MAINPID=1?[2J"; got != want {
		t.Errorf("systemd was told %q, want %q", got, want)
	}
}
