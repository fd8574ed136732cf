package nbd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// host is the machine as seen in /dev, /proc and /sys below root, which is "/"
// outside of tests.
type host struct {
	root   string
	limits limits
}

// limits bound each wait. A busy machine takes its time to start a program, and
// flushing waits for the disk that holds the image.
type limits struct {
	module, node, connect, flush, disconnect time.Duration
}

func thisHost() host {
	return host{root: "/", limits: limits{
		module:     30 * time.Second,
		node:       10 * time.Second,
		connect:    30 * time.Second,
		flush:      60 * time.Second,
		disconnect: 10 * time.Second,
	}}
}

func (h host) path(elem ...string) string {
	return filepath.Join(append([]string{h.root}, elem...)...)
}

// node returns the path of a device's node.
func (h host) node(name string) string { return h.path("dev", name) }

// openNode opens a device's node. When the module has just been loaded the node may
// be missing, or root's alone until udev has given it to the group disk.
func (h host) openNode(ctx context.Context, name string, flag int) (f *os.File, err error) {
	waitErr := poll(ctx, h.limits.node, nil, func() bool {
		f, err = os.OpenFile(h.node(name), flag, 0)
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
	})
	if waitErr != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	return f, err
}

// devices returns the names of the kernel's nbd devices, in the order of their
// numbers: "nbd0", "nbd1", ...
func (h host) devices() ([]string, error) {
	entries, err := os.ReadDir(h.path("sys/block"))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		if n, ok := deviceNumber(e.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var names []string
	for _, n := range numbers {
		names = append(names, "nbd"+strconv.Itoa(n))
	}
	return names, nil
}

// deviceNumber returns the number of a device called "nbdN".
func deviceNumber(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "nbd")
	n, err := strconv.ParseUint(digits, 10, 16)
	return int(n), ok && err == nil && "nbd"+strconv.FormatUint(n, 10) == name
}

// free tells whether nobody uses a device: it has no size and no server. What
// cannot be read is not free.
func (h host) free(name string) bool {
	_, err := os.Lstat(h.path("sys/block", name, "pid"))
	return errors.Is(err, os.ErrNotExist) && h.sectors(name) == 0
}

// sectors returns a device's size, in units of 512 bytes; -1 if it is unknown.
func (h host) sectors(name string) int64 {
	n, err := h.readNumber("sys/block", name, "size")
	if err != nil {
		return -1
	}
	return n
}

// server returns the id of the thread that serves a device, which the kernel
// tells while it is connected; 0 if there is none.
func (h host) server(name string) int {
	n, err := h.readNumber("sys/block", name, "pid")
	if err != nil {
		return 0
	}
	return int(n)
}

func (h host) readNumber(elem ...string) (int64, error) {
	text, err := os.ReadFile(h.path(elem...))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// isThread tells whether task is a thread of the process pid.
func (h host) isThread(task, pid int) bool {
	_, err := os.Stat(h.path("proc", strconv.Itoa(pid), "task", strconv.Itoa(task)))
	return task > 0 && err == nil
}

// commandLine returns the arguments of the process that a thread belongs to, none
// if there is no such thread.
func (h host) commandLine(task int) []string {
	text, err := os.ReadFile(h.path("proc", strconv.Itoa(task), "cmdline"))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\x00")
}

// allInUse is the error for a host without a free device among n.
func allInUse(n int) error {
	if n == 0 {
		return errors.New("the kernel has no nbd devices: check the parameter nbds_max of its module")
	}
	return fmt.Errorf("all %d nbd devices are in use: try later, or load the module nbd with a larger nbds_max", n)
}

const pollInterval = 20 * time.Millisecond

// errGone means that what should have made a condition true has ended.
var errGone = errors.New("qemu-nbd has ended")

// poll waits until ready returns true, and no longer than limit, until ctx ends
// or until gone is closed.
func poll(ctx context.Context, limit time.Duration, gone <-chan struct{}, ready func() bool) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if ready() {
			return nil
		}
		select {
		case <-tick.C:
		case <-gone:
			return errGone
		case <-deadline.C:
			return fmt.Errorf("not within %v", limit)
		case <-ctx.Done():
		}
	}
}
