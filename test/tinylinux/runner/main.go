// Command runner is the /init of tinylinux.Run: it makes the host's files, read
// over 9p, the lower layer of its root file system, runs one command there and
// switches the machine off. What the command prints, and how it ended, leaves
// through virtio-serial ports.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/esxid/esxid/test/tinylinux"
	"github.com/esxid/esxid/test/tinylinux/pid1"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("runner:", err)
	}
	pid1.PowerOff()
}

func run() error {
	if err := pid1.MountKernel("/"); err != nil {
		return err
	}
	if err := pid1.LoadModules(); err != nil {
		return err
	}
	text, err := os.ReadFile("/job.json")
	if err != nil {
		return err
	}
	var job tinylinux.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return err
	}
	if err := mountRoot("/root"); err != nil {
		return err
	}
	for _, pattern := range job.WaitFor {
		if _, err := pid1.WaitFor(pattern, 5*time.Second); err != nil {
			return err
		}
	}
	return execute(job, "/root")
}

// mountRoot lays a writable, forgetful layer over the host's root.
func mountRoot(root string) error {
	if err := pid1.Mount("9p", "host", "/host", syscall.MS_RDONLY, "trans=virtio,version=9p2000.L,cache=loose,msize=512000"); err != nil {
		return err
	}
	if err := pid1.Mount("tmpfs", "tmpfs", "/layer", 0, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/layer/upper", "/layer/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := pid1.Mount("overlay", "overlay", root, 0, "lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work"); err != nil {
		return err
	}
	if err := pid1.MountKernel(root); err != nil {
		return err
	}
	for _, dir := range []string{"run", "tmp", "dev/shm"} {
		if err := pid1.Mount("tmpfs", "tmpfs", filepath.Join(root, dir), 0, "mode=1777"); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(root, "run/lock"), 0o1777); err != nil {
		return err
	}
	return pid1.Mount("devpts", "devpts", filepath.Join(root, "dev/pts"), 0, "")
}

func execute(job tinylinux.Job, root string) error {
	ports := map[string]*os.File{}
	for _, name := range []string{"stdout", "stderr", "status"} {
		port, err := openPort(name)
		if err != nil {
			return err
		}
		defer port.Close()
		ports[name] = port
	}
	for name, data := range job.Files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			return err
		}
	}
	cmd := exec.Command("/usr/bin/env", job.Command...) // env looks the program up inside the root
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}, job.Env...)
	cmd.Stdout, cmd.Stderr = ports["stdout"], ports["stderr"]
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	code := cmd.ProcessState.ExitCode()
	if signal := cmd.ProcessState.Sys().(syscall.WaitStatus); signal.Signaled() {
		code = 128 + int(signal.Signal()) // as a shell says it
	}
	_, err = fmt.Fprintf(ports["status"], "%d\n", code)
	return err
}

// openPort opens the virtio-serial port of that name.
func openPort(name string) (*os.File, error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil || strings.TrimSpace(string(text)) != name {
				continue // a port's name is set a moment after it appears
			}
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(file))), os.O_WRONLY, 0)
		}
	}
	return nil, fmt.Errorf("virtio-serial port %s did not appear", name)
}
