package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/weasel"
)

// applets are ESXi's programs that scripts of a kickstart may call. busybox has
// the rest; its poweroff and reboot act with -f only, because the init that
// they would ask otherwise does not listen.
var applets = map[string]func(args []string) int{
	"vsish":    vsish,
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

// esxcli needs a hostd, which does not run in the installer: shutting down
// waits for it for ever.
func esxcli(args []string) int {
	if slices.Contains(args, "shutdown") {
		wait()
	}
	fmt.Fprintln(os.Stderr, "Connect to localhost failed: Connection failure")
	return 1
}
