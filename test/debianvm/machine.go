package debianvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/vm"
	"github.com/esxid/esxid/test/debianvm/wire"
	"github.com/esxid/esxid/test/tinylinux"
)

// Config is what a machine is made of.
type Config struct {
	Image *Image
	// Dir gets the machine's disk, its sockets and console.txt; it must exist.
	Dir string
	// Payload has files for the machine, by name: below /payload there.
	Payload map[string]string
	// Transcript gets each command with its output, readable.
	Transcript io.Writer
	MemoryMiB  int // default 6144; what is not used costs nothing
	// GuestPort is a TCP port of the machine that Machine.Address forwards to.
	GuestPort int
}

// bootLimit is many times what a boot takes on a machine with nothing else to do.
const bootLimit = 4 * time.Minute

// Machine is a running Debian. Its methods may be called side by side.
type Machine struct {
	// Address is where the machine's GuestPort can be reached: "127.0.0.1:1234".
	Address string
	// Accel is what it runs with: kvm or tcg.
	Accel string

	qemu    *exec.Cmd
	ended   chan struct{} // closed when QEMU has ended
	console string
	guest   *guest
}

// Start boots a machine and waits until it takes commands. Close ends it.
func Start(ctx context.Context, c Config) (*Machine, error) {
	accel, _, err := vm.Resolve(ctx, "", "auto")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if err := makeDisks(ctx, c); err != nil {
		return nil, err
	}
	socket := filepath.Join(c.Dir, "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	defer listener.Close()

	m := &Machine{Address: address, Accel: accel, ended: make(chan struct{}), console: filepath.Join(c.Dir, "console.txt")}
	var stderr bytes.Buffer
	m.qemu = exec.Command("qemu-system-x86_64", arguments(c, accel, address, socket)...)
	m.qemu.Stderr = &stderr
	if err := m.qemu.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(m.ended)
		if err := m.qemu.Wait(); err != nil && stderr.Len() > 0 {
			fmt.Fprintf(c.Transcript, "%v: %s\n", err, stderr.Bytes())
		}
		listener.Close()
	}()
	conn, err := listener.Accept()
	if err != nil {
		<-m.ended
		return nil, fmt.Errorf("QEMU did not start: %s", stderr.Bytes())
	}
	m.guest = newGuest(conn, c.Transcript)
	if _, err := m.Booted(ctx, ""); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close ends the machine as a power cut does.
func (m *Machine) Close() {
	_ = m.qemu.Process.Kill()
	<-m.ended
	m.guest.conn.Close()
}

// Booted waits until the machine takes commands in another boot than the one
// given, and returns the new one's id.
func (m *Machine) Booted(ctx context.Context, before string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	boot, err := m.guest.booted(ctx, before)
	if err == nil {
		return boot, nil
	}
	console, readErr := os.ReadFile(m.console)
	return "", fmt.Errorf("the machine did not boot: %w; end of its console:\n%s",
		errors.Join(err, readErr), console[max(0, len(console)-2000):])
}

// Run runs a command in the machine. An error means that it did not run to its
// end; any exit code is a result.
func (m *Machine) Run(ctx context.Context, c Command) (Result, error) { return m.guest.run(ctx, c) }

func arguments(c Config, accel, address, socket string) []string {
	cpu := "max"
	if accel == "kvm" {
		cpu = "host"
	}
	memory := c.MemoryMiB
	if memory == 0 {
		memory = 6144
	}
	host, port, _ := strings.Cut(address, ":")
	disk := func(name, format string) string {
		return fmt.Sprintf("if=virtio,format=%s,cache=unsafe,discard=unmap,file=%s", format, filepath.Join(c.Dir, name))
	}
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc",
		"-accel", accel, "-cpu", cpu, "-smp", "2", "-m", strconv.Itoa(memory),
		"-kernel", c.Image.kernel(), "-initrd", c.Image.initrd(),
		"-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=no " + tinylinux.FastOptions,
		"-serial", "file:" + filepath.Join(c.Dir, "console.txt"),
		"-drive", disk("root.qcow2", "qcow2"),
		"-drive", disk("payload.img", "raw") + ",readonly=on",
		"-device", "virtio-rng-pci",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path=" + socket,
		"-device", "virtserialport,chardev=agent,name=" + wire.Port,
		// Nothing from the machine gets out, and only this port gets in.
		"-netdev", fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:%s:%s-:%d", host, port, c.GuestPort),
		"-device", "virtio-net-pci,netdev=net,romfile=",
	}
}

// freeAddress is a port of the loopback interface that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// makeDisks makes the machine's disk, a layer over the image's, and the payload
// with the agent in it.
func makeDisks(ctx context.Context, c Config) error {
	root := filepath.Join(c.Dir, "root.qcow2")
	if err := program(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", c.Image.disk(), "-F", "raw", root); err != nil {
		return err
	}
	agent, err := tinylinux.Build(ctx, "./test/debianvm/agent")
	if err != nil {
		return err
	}
	files := filepath.Join(c.Dir, "payload")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(files)
	if err := os.WriteFile(filepath.Join(files, "agent"), agent, 0o755); err != nil {
		return err
	}
	size := int64(len(agent))
	for name, path := range c.Payload {
		n, err := copyFile(filepath.Join(files, name), path)
		if err != nil {
			return err
		}
		size += n
	}
	img := filepath.Join(c.Dir, "payload.img")
	if err := os.WriteFile(img, nil, 0o644); err != nil {
		return err
	}
	// A tenth and 16 MiB are more than ext4 needs for itself.
	if err := os.Truncate(img, size+size/10+16<<20); err != nil {
		return err
	}
	return program(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "payload", "-d", files, img)
}

func copyFile(to, from string) (int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return 0, err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fi.Mode().Perm())
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}

func program(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
