// Package wire is what debianvm and its agent in the machine say to each other:
// JSON values in both directions on a virtio-serial port.
package wire

// Port is the port's name, below /dev/virtio-ports in the machine.
const Port = "debianvm"

// MaxOutput bounds each of the outputs of a command, in bytes; the rest is cut.
const MaxOutput = 8 << 20

// Command asks the agent to run a script. Commands run side by side.
type Command struct {
	ID      int
	Script  string  // for bash
	User    string  // "" is root
	Seconds float64 // after this long it is killed with all it started in its process group
}

// Reply is what the agent says: first of all, once per boot, which boot it is
// (Boot alone), then how each command ended.
type Reply struct {
	Boot string // as in /proc/sys/kernel/random/boot_id

	ID             int
	Stdout, Stderr []byte
	ExitCode       int    // 128 + number for a signal
	TimedOut       bool   // it was killed after Command.Seconds
	Error          string // it could not be started
}
