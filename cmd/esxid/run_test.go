package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The service that was started anew has no huge pages, and the name it had.
func TestUseSmallPages(t *testing.T) {
	if os.Getenv("ESXID_TEST_SMALL_PAGES") != "" {
		err := useSmallPages()
		off, _ := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
		comm, _ := os.ReadFile("/proc/self/comm")
		fmt.Printf("%v %d %s", err, off, comm)
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestUseSmallPages$")
	cmd.Env = append(os.Environ(), "ESXID_TEST_SMALL_PAGES=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.Output()
	name := filepath.Base(os.Args[0])
	if want := fmt.Sprintf("<nil> 1 %s\n", name[:min(len(name), 15)]); err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}
