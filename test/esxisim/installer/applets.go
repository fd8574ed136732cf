package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/weasel"
	"golang.org/x/sys/unix"
)

// applets are ESXi's programs that scripts of a kickstart may call. busybox has
// the rest.
var applets = map[string]func(args []string) int{
	"vsish":    vsish,
	"poweroff": func(args []string) int { return stop(args, unix.LINUX_REBOOT_CMD_POWER_OFF) },
	"halt":     func(args []string) int { return stop(args, unix.LINUX_REBOOT_CMD_HALT) },
	"reboot":   func(args []string) int { return stop(args, unix.LINUX_REBOOT_CMD_RESTART) },
	"esxcli":   esxcli,
	"localcli": esxcli,
}

// vsish knows the one node that a script can use to reach the serial port.
func vsish(args []string) int {
	if len(args) < 4 || args[0] != "-e" || args[1] != "set" || args[2] != "/system/log" {
		fmt.Fprintln(os.Stderr, "vsish: unknown command or node")
		return 1
	}
	log, err := weasel.CurrentLog()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	log.Printf("%s", strings.Join(args[3:], " "))
	return 0
}

// stop acts at once with -f. Without it, it asks an init that the installer
// does not have, and nothing happens.
func stop(args []string, how int) int {
	if !slices.Contains(args, "-f") {
		return 0
	}
	for _, bank := range weasel.Banks {
		// Writable FAT volumes are marked as such while they are mounted. There
		// are none yet in %pre.
		_ = unix.Mount("", bank, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	unix.Sync()
	if err := unix.Reboot(how); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// esxcli needs a hostd, which does not run in the installer: shutting down
// waits for it for ever.
func esxcli(args []string) int {
	if slices.Contains(args, "shutdown") {
		wait()
	}
	fmt.Fprintln(os.Stderr, "Connect to localhost failed: Connection failure")
	return 1
}
