package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Inside is where a program that has entered the host finds the host's own
// directory.
const Inside = "/.sim"

// Entry is what the multi-call program is told, as "enter", to start a program
// on the host.
type Entry struct {
	Dir      string    // of the host
	Tools    string    // of BuildTools
	Python   string    // prefix of Python's installation
	Argv     []string  // of the program, as the host sees it
	Forwards []Forward // with Socket
}

// Forward makes a server reachable for programs on the host: at an address of
// the host's network, and only while the host's configuration leads there.
type Forward struct {
	Address string `json:"address"`          // "10.0.0.5:5248"
	Name    string `json:"name,omitempty"`   // for the host's /etc/hosts
	To      string `json:"to"`               // of the server: "127.0.0.1:5240"
	Socket  string `json:"socket,omitempty"` // between the namespaces
}

// Enter is a program on the host. It runs in a mount namespace of its own, in
// which the host's files are /. That needs root, or a kernel that gives users
// namespaces.
func (h *Host) Enter(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	return h.enter(ctx, argv, nil)
}

func (h *Host) enter(ctx context.Context, argv []string, forwards []Forward) (*exec.Cmd, error) {
	python, err := filepath.EvalSymlinks(filepath.Join(h.Dir, "bin/python"))
	if err != nil {
		return nil, err
	}
	entry, err := json.Marshal(Entry{h.Dir, h.tools, filepath.Dir(filepath.Dir(python)), argv, forwards})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(h.tools, program))
	cmd.Args = []string{"enter", string(entry)}
	cmd.Env = []string{"PATH=/bin:/sbin", Variable + "=" + Inside, "HOME=/"}
	// With its own processes: none of them outlives the one that is started here.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if len(forwards) > 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd, nil
}

// FirstBoot boots the host and runs the body of a kickstart's %firstboot
// section. With forwards it has a network of its own, in which it reaches those
// servers when the host would, and no others. It returns what the script prints.
func (h *Host) FirstBoot(ctx context.Context, body []byte, forwards ...Forward) (string, error) {
	const script = "/var/lib/vmware/firstboot/001.firstboot"
	if err := os.MkdirAll(filepath.Dir(h.Path(script)), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(h.Path(script), body, 0o755); err != nil {
		return "", err
	}
	if err := h.Boot(); err != nil {
		return "", err
	}
	var out bytes.Buffer
	err := h.Script(ctx, script, &out, forwards...)
	return out.String(), err
}

// Script runs one of the host's files with the host's shell.
func (h *Host) Script(ctx context.Context, path string, out io.Writer, forwards ...Forward) (err error) {
	// The path of a socket has to be short.
	dir, err := os.MkdirTemp("", "esxi-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i := range forwards {
		f := &forwards[i]
		f.Socket = filepath.Join(dir, fmt.Sprint(i))
		l, err := h.serve(*f)
		if err != nil {
			return err
		}
		defer l.Close()
	}
	cmd, err := h.enter(ctx, []string{"/bin/sh", path}, forwards)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// serve passes connections to a socket on to a server as long as the host's
// configuration leads to it.
func (h *Host) serve(f Forward) (net.Listener, error) {
	at, err := netip.ParseAddrPort(f.Address)
	if err != nil {
		return nil, err
	}
	if f.Name != "" {
		if err := h.addName(at.Addr(), f.Name); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", f.Socket)
	if err != nil {
		return nil, err
	}
	go Relay(h.Guard(l, at), func() (net.Conn, error) { return net.Dial("tcp", f.To) })
	return l, nil
}

// addName gives an address a name in /etc/hosts, where name servers would be
// asked on a real host.
func (h *Host) addName(a netip.Addr, name string) error {
	f, err := os.OpenFile(h.Path("/etc/hosts"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\t%s\n", a, name)
	return errors.Join(err, f.Close())
}

// Relay passes connections on until the listener is closed.
func Relay(l net.Listener, dial func() (net.Conn, error)) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer near.Close()
			far, err := dial()
			if err != nil {
				return // the client sees that nobody answers
			}
			defer far.Close()
			done := make(chan struct{})
			go func() {
				_, _ = io.Copy(far, near) // either end may close it
				closeWrite(far)
				close(done)
			}()
			_, _ = io.Copy(near, far) // either end may close it
			closeWrite(near)
			<-done
		}()
	}
}

// closeWrite tells the other end that nothing more comes.
func closeWrite(c net.Conn) {
	if c, ok := c.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // it may be closed already
	}
}
