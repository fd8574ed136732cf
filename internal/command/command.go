// Package command runs the external programs esxid needs (QEMU, qemu-img,
// qemu-nbd, mtools). It is the only package that imports os/exec, so that the
// rules for child processes stand in one place:
//
//   - a program is an argument list, never a shell string;
//   - LC_ALL=C, so that messages can be read; NOTIFY_SOCKET, the watchdog's and
//     credentials' variables are not passed on;
//   - a child dies with esxid, however esxid dies (PR_SET_PDEATHSIG), and is
//     killed with its whole process group when its context ends;
//   - captured output is bounded.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// maxOutput bounds what is kept of a program's standard output and error.
const maxOutput = 1 << 20

// killGrace is how long a child has between SIGTERM and SIGKILL.
const killGrace = 5 * time.Second

// debianPackage names the package that brings a program, for the message about
// a missing one.
var debianPackage = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"qemu-img":           "qemu-utils",
	"qemu-io":            "qemu-utils",
	"qemu-nbd":           "qemu-utils",
	"mcopy":              "mtools",
	"mdel":               "mtools",
	"mdeltree":           "mtools",
	"mdir":               "mtools",
	"mformat":            "mtools",
	"minfo":              "mtools",
	"mmd":                "mtools",
	"mtype":              "mtools",
}

// Error is a program that ran and failed.
type Error struct {
	Name   string // the program, without its directory
	Stderr string // the end of its standard error, trimmed
	Err    error  // *exec.ExitError, or the context's error
}

func (e *Error) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Name, e.Err, e.Stderr)
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the program's exit code, or -1 if it was ended by a signal
// or did not get that far.
func (e *Error) ExitCode() int {
	var exit *exec.ExitError
	if errors.As(e.Err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Cmd describes a program to run.
type Cmd struct {
	Name       string   // looked up in PATH unless it contains a slash
	Args       []string // without the program's name
	Dir        string
	Env        []string // added to the cleaned environment
	Stdin      io.Reader
	Stdout     io.Writer // nil: discarded by Start, returned by Output
	ExtraFiles []*os.File
}

// Process is a running program.
type Process struct {
	cmd    *exec.Cmd
	name   string
	stderr tail
	done   chan struct{}
	err    error
	// ended is the context's error once it is the reason for the program's end.
	ended atomic.Pointer[error]
}

// LookPath finds a program. The error of a missing one names the Debian package.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	base := filepath.Base(name)
	if pkg := debianPackage[base]; pkg != "" {
		return "", fault.New(fault.Unavailable, "cannot find the program %s: install it with: apt install %s", name, pkg)
	}
	return "", fault.New(fault.Unavailable, "cannot find the program %s: %w", name, err)
}

// Output runs a program to its end and returns its standard output, at most
// 1 MiB of it; more is an error.
func Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out limited
	p, err := Start(ctx, Cmd{Name: name, Args: args, Stdout: &out})
	if err != nil {
		return nil, err
	}
	if err := p.Wait(); err != nil {
		return out.buf.Bytes(), err
	}
	if out.over {
		return nil, fmt.Errorf("%s: printed more than %d bytes", p.name, maxOutput)
	}
	return out.buf.Bytes(), nil
}

// Start starts a program. It is terminated when ctx ends: SIGTERM to its process
// group, then SIGKILL when it has ended, after five seconds at the latest. The
// caller must call Wait.
func Start(ctx context.Context, c Cmd) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := LookPath(c.Name)
	if err != nil {
		return nil, err
	}
	p := &Process{name: filepath.Base(path), done: make(chan struct{})}
	p.cmd = exec.Command(path, c.Args...)
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(environ(), c.Env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Stdin, c.Stdout, &p.stderr
	p.cmd.ExtraFiles = c.ExtraFiles
	p.cmd.WaitDelay = killGrace
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error, 1)
	go func() {
		// The death signal is tied to the thread that forked, so that thread
		// must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	go p.killOnDone(ctx)
	return p, nil
}

// killOnDone ends the process group when ctx ends before the process does.
func (p *Process) killOnDone(ctx context.Context) {
	select {
	case <-p.done:
		return
	case <-ctx.Done():
	}
	err := ctx.Err()
	p.ended.Store(&err)
	p.signal(syscall.SIGTERM)
	grace := time.NewTimer(killGrace)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
	}
	p.signal(syscall.SIGKILL) // also to what it leaves behind in its group
}

func (p *Process) signal(s syscall.Signal) {
	// The group may be gone already; there is nothing left to end then.
	_ = syscall.Kill(-p.cmd.Process.Pid, s)
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the program and its process group at once.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

// Wait waits for the program to end. The error of one that failed is *Error.
func (p *Process) Wait() error {
	<-p.done
	if p.err == nil {
		return nil
	}
	if ended := p.ended.Load(); ended != nil {
		// A program we ended has not failed.
		return &Error{Name: p.name, Err: *ended}
	}
	return &Error{Name: p.name, Stderr: p.stderr.text(), Err: p.err}
}

// Stderr returns the end of what the program has written to its standard error,
// on one line. It is there once Done is closed, also when the program did not
// fail.
func (p *Process) Stderr() string {
	<-p.done
	return p.stderr.text()
}

// environ is the caller's environment without what belongs to esxid alone.
func environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		switch key, _, _ := strings.Cut(kv, "="); key {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
			"CREDENTIALS_DIRECTORY", "LC_ALL", "LANG", "LANGUAGE":
		default:
			env = append(env, kv)
		}
	}
	return append(env, "LC_ALL=C")
}

// limited keeps the first maxOutput bytes written to it.
type limited struct {
	buf  bytes.Buffer
	over bool
}

func (l *limited) Write(b []byte) (int, error) {
	room := maxOutput - l.buf.Len()
	l.buf.Write(b[:min(room, len(b))])
	l.over = l.over || len(b) > room
	return len(b), nil
}

// tail keeps the last few kilobytes written to it.
type tail struct{ buf []byte }

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// text is what was kept, on one line.
func (t *tail) text() string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(t.buf), "?")), " ")
}
