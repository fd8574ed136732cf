// Package pid1 is what a static Go program needs to be the /init of a small
// virtual machine: the kernel's own file systems, modules, the way off.
package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MountKernel mounts /dev, /proc and /sys below root ("/" for the initramfs
// itself).
func MountKernel(root string) error {
	for _, m := range []struct{ kind, dir string }{
		{"devtmpfs", "dev"}, {"proc", "proc"}, {"sysfs", "sys"},
	} {
		if err := Mount(m.kind, m.kind, filepath.Join(root, m.dir), 0, ""); err != nil {
			return err
		}
	}
	return nil
}

// Mount makes the directory and mounts on it.
func Mount(kind, source, dir string, flags uintptr, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, dir, kind, flags, options); err != nil {
		return fmt.Errorf("cannot mount %s (%s) on %s: %w", source, kind, dir, err)
	}
	return nil
}

// LoadModules loads what tinylinux.Kernel.Modules put into the initramfs, in
// its order.
func LoadModules() error {
	list, err := os.ReadFile("/modules/list")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		name, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := loadModule("/modules/"+name, params); err != nil {
			return fmt.Errorf("cannot load %s: %w", name, err)
		}
	}
	return nil
}

func loadModule(path, params string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.FinitModule(int(file.Fd()), params, 0)
}

// WaitFor waits until a file is there that a driver makes on its own time,
// after its module is loaded, and returns its path. The pattern is a glob. The
// kernel offers no event for this that would not need udev.
func WaitFor(pattern string, limit time.Duration) (string, error) {
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		if len(matches) > 0 {
			return matches[0], nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%s did not appear within %v", pattern, limit)
		}
	}
}

// PowerOff writes everything to the disks and switches the machine off. It
// does not return.
func PowerOff() {
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	panic(fmt.Sprintf("cannot power off: %v", err)) // the kernel panics in turn
}
