package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/esxid/esxid/internal/command"
)

const (
	handshakeLimit = 30 * time.Second // from QEMU's start to its first answer
	commandLimit   = 5 * time.Second  // for one QMP command
	// quitLimit is from "quit" to QEMU's end. A slow host may still be writing out
	// the gigabytes of the installation, and QEMU wait for a file beside them; a
	// good installation must not fail on that.
	quitLimit = 2 * time.Minute
)

// machine is a running QEMU with its two connections.
type machine struct {
	process *command.Process
	qmp     *qmp
	serial  net.Conn
	read    chan struct{} // closed when QEMU is gone and its serial port was read to the end
}

// startMachine starts QEMU in dir with the guest still stopped, and copies what
// comes from its serial port to output. QEMU is ended when ctx is.
func startMachine(ctx context.Context, dir, program string, args []string, output io.Writer) (_ *machine, err error) {
	monitor, monitorQEMU, err := socketPair("QMP")
	if err != nil {
		return nil, err
	}
	serial, serialQEMU, err := socketPair("serial port")
	if err != nil {
		monitor.Close()
		monitorQEMU.Close()
		return nil, err
	}
	process, err := command.Start(ctx, command.Cmd{
		Name:       program,
		Args:       args,
		Dir:        dir,
		ExtraFiles: []*os.File{monitorQEMU, serialQEMU}, // qmpFD, serialFD
	})
	// Only QEMU may hold its ends, so that they close with it.
	monitorQEMU.Close()
	serialQEMU.Close()
	if err != nil {
		monitor.Close()
		serial.Close()
		return nil, err
	}
	m := &machine{process: process, serial: serial, read: make(chan struct{})}
	go func() {
		defer close(m.read)
		// Ends with the connection; how that ended is not of interest.
		_, _ = io.Copy(output, serial)
	}()

	handshake, cancel := context.WithTimeoutCause(ctx, handshakeLimit, fmt.Errorf("no answer within %v", handshakeLimit))
	defer cancel()
	if m.qmp, err = newQMP(handshake, monitor, "SHUTDOWN", "STOP", "BLOCK_IO_ERROR"); err != nil {
		// QEMU that refuses its arguments ends by itself and says why.
		ended := m.wait(2 * time.Second)
		switch {
		case handshake.Err() != nil && ended != nil:
			err = fmt.Errorf("%w: %w", err, ended)
		case ended != nil:
			err = ended
		}
		m.close()
		return nil, err
	}
	return m, nil
}

// socketPair returns two connected stream sockets: ours, and one to be
// inherited.
func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket for QEMU's %s: %w", name, err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours) // a duplicate
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("cannot use the socket for QEMU's %s: %w", name, err)
	}
	return conn, theirs, nil
}

// cont lets the guest run.
func (m *machine) cont(ctx context.Context) error {
	return m.command(ctx, "cont", nil, nil)
}

func (m *machine) command(ctx context.Context, name string, arguments, result any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandLimit, fmt.Errorf("no answer within %v", commandLimit))
	defer cancel()
	return m.qmp.execute(ctx, name, arguments, result)
}

// counters are what the guest has done with its drives so far, in bytes.
type counters struct{ diskWritten, cdRead int64 }

func (m *machine) counters(ctx context.Context) (counters, error) {
	var drives []struct {
		Node  string `json:"node-name"`
		Stats struct {
			Read    int64 `json:"rd_bytes"`
			Written int64 `json:"wr_bytes"`
		} `json:"stats"`
	}
	if err := m.command(ctx, "query-blockstats", nil, &drives); err != nil {
		return counters{}, err
	}
	var c counters
	for _, d := range drives {
		switch d.Node {
		case "disk":
			c.diskWritten = d.Stats.Written
		case "installer":
			c.cdRead = d.Stats.Read
		}
	}
	return c, nil
}

// screendump writes a picture of the guest's screen.
func (m *machine) screendump(ctx context.Context, path string) error {
	return m.command(ctx, "screendump", map[string]string{"filename": path, "format": "png"}, nil)
}

// status returns QEMU's run state, like "running" or "internal-error".
func (m *machine) status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := m.command(ctx, "query-status", nil, &s)
	return s.Status, err
}

// quit ends QEMU the orderly way, so that the disk file gets all that was
// written to it, and reads the serial port to its end. The error is the one
// QEMU ended with, also if that was before.
func (m *machine) quit() error {
	// Its own error does not matter: if QEMU cannot be told, it is gone or stuck,
	// and its end says which.
	_ = m.command(context.Background(), "quit", nil, nil)
	err := m.wait(quitLimit)
	<-m.read // QEMU's end of the connection went with it
	m.close()
	return err
}

// wait waits for QEMU's end, kills it after limit, and returns its error.
func (m *machine) wait(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-m.process.Done():
		return m.process.Wait()
	case <-timer.C:
	}
	m.process.Kill()
	return fmt.Errorf("QEMU had to be killed: %w", m.process.Wait())
}

// close lets go of a QEMU that has ended.
func (m *machine) close() {
	if m.qmp != nil {
		m.qmp.close()
	}
	m.serial.Close()
	<-m.read
}

// shutdownReason reads a SHUTDOWN event: whether the guest caused it, and how.
func shutdownReason(data json.RawMessage) (guest bool, reason string) {
	var d struct {
		Guest  bool   `json:"guest"`
		Reason string `json:"reason"`
	}
	// Unreadable data leaves the zero values: not the guest, no reason.
	_ = json.Unmarshal(data, &d)
	return d.Guest, d.Reason
}

// ioError is the data of a BLOCK_IO_ERROR event.
type ioError struct {
	Node      string `json:"node-name"`
	Operation string `json:"operation"`
	NoSpace   bool   `json:"nospace"`
	Reason    string `json:"reason"`
}
