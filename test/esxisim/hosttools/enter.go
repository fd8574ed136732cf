package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/esxid/esxid/test/esxisim/host"
	"golang.org/x/sys/unix"
)

// enter starts a program on the host: in the namespaces that host.Host.Enter has
// made for this process it makes the host's files the root directory, so that
// everything is where ESXi has it, and gives the servers their addresses. It
// returns the program's exit status.
func enter(args []string) (int, error) {
	var e host.Entry
	if len(args) != 2 {
		return 0, errors.New("wrong use of enter")
	}
	if err := json.Unmarshal([]byte(args[1]), &e); err != nil {
		return 0, err
	}
	root := filepath.Join(e.Dir, "root")
	if err := showFiles(e, root); err != nil {
		return 0, err
	}
	if len(e.Forwards) > 0 { // else the network is not ours
		if err := configure("ifconfig", "lo", "127.0.0.1", "up"); err != nil {
			return 0, err
		}
	}
	for _, f := range e.Forwards {
		if err := listen(f); err != nil {
			return 0, err
		}
	}
	cmd := exec.Command("/bin/env", e.Argv...) // busybox's, which looks the program up inside
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// showFiles mounts what the host's programs need below its root.
func showFiles(e host.Entry, root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the mounts private: %w", err)
	}
	links := filepath.Join(e.Tools, "bin")
	binds := [][2]string{{e.Dir, filepath.Join(root, host.Inside)}, {links, filepath.Join(root, "bin")}, {links, filepath.Join(root, "sbin")}}
	same := []string{e.Tools, "/usr", "/lib", "/lib64", e.Python, "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"}
	hw, err := host.ReadHardware(filepath.Join(e.Dir, "hardware.json"))
	if err != nil {
		return err
	}
	for _, d := range hw.Disks {
		if d.Image != "" {
			same = append(same, d.Image)
		}
	}
	for _, path := range same {
		binds = append(binds, [2]string{path, filepath.Join(root, path)})
	}
	for _, b := range binds {
		if err := bind(b[0], b[1]); err != nil {
			return err
		}
	}
	return nil
}

// bind shows a file or directory of the outside; a link is made again.
func bind(from, to string) error {
	fi, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // /lib64 is not everywhere
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(to); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		return nil // from the last time
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case fi.IsDir():
		err = os.MkdirAll(to, 0o755)
	default:
		err = touch(to)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot show %s at %s: %w", from, to, err)
	}
	return nil
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// listen stands in for a server at its address, and passes connections on to
// the socket that leads out of this namespace.
func listen(f host.Forward) error {
	at, err := netip.ParseAddrPort(f.Address)
	if err != nil {
		return err
	}
	bits := map[bool]string{true: "/32", false: "/128"}[at.Addr().Is4()]
	if at.Addr().IsLoopback() {
		return fmt.Errorf("%s is no address of a server", f.Address)
	}
	if err := configure("ip", "addr", "add", at.Addr().String()+bits, "dev", "lo"); err != nil {
		return err
	}
	// A new IPv6 address is the kernel's own only after a moment.
	free := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(err, set)
	}}
	l, err := free.Listen(context.Background(), "tcp", f.Address)
	if err != nil {
		return err
	}
	go host.Relay(l, func() (net.Conn, error) { return net.Dial("unix", f.Socket) })
	return nil
}

// configure calls one of busybox's network applets.
func configure(args ...string) error {
	if out, err := exec.Command("/usr/bin/busybox", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
