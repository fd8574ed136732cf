package journal

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// socketPath is where the journal takes records.
const socketPath = "/run/systemd/journal/socket"

// patience is how long a record waits for room in the journal's queue. Only the
// first of several waits: after that the journal is not there, or is not keeping up.
const patience = 100_000 // microseconds

// socket sends records to the journal and loses those it cannot send. While
// journald restarts, systemd holds its socket and the records wait there.
type socket struct {
	mu   sync.Mutex
	to   unix.SockaddrUnix
	fd   int // -1: none could be had
	lost uint64
}

func newSocket(path string) *socket {
	s := &socket{to: unix.SockaddrUnix{Name: path}, fd: -1}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return s
	}
	// A failure leaves less room, or no limit to the wait, and is no reason to do
	// without a log.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*maxRecord)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: patience})
	s.fd = fd
	return s
}

// send sends one record. The first one after a loss is preceded by the number of
// those that were lost.
func (s *socket) send(record []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost > 0 {
		notice := appendField(nil, "MESSAGE", fmt.Sprintf("Messages of esxid that did not reach the journal: %d.", s.lost))
		notice = appendField(notice, "PRIORITY", "4")
		notice = appendField(notice, "SYSLOG_IDENTIFIER", "esxid")
		if s.write(notice, unix.MSG_DONTWAIT) != nil {
			s.lost++
			return
		}
		s.lost = 0
	}
	if s.write(record, 0) != nil {
		s.lost++
	}
}

func (s *socket) write(b []byte, flags int) error {
	for {
		err := unix.Sendto(s.fd, b, flags|unix.MSG_NOSIGNAL, &s.to)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
