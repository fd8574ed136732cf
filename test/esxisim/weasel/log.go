// Package weasel is the installer of the simulated ESXi. It imitates what the
// real one does as far as it can be seen from outside the machine: where it
// looks for a kickstart, what it accepts, what it writes to the disk, how it
// fails. Its words are its own, except for the few by which a failure of the
// real one can be recognised.
package weasel

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// comPort is set up by the boot loader's options; vsish finds it here.
const comPort = "/run/logport"

// Log is the kernel's log as it leaves through the serial port. Without
// logPort=com1 it goes nowhere: programs cannot write to the port themselves.
type Log struct{ port *os.File }

// OpenLog opens the log of a machine started with the given options.
func OpenLog(o BootOptions) (*Log, error) {
	if o["logPort"] != "com1" {
		return &Log{}, nil
	}
	if err := os.Symlink("/dev/ttyS0", comPort); err != nil {
		return nil, err
	}
	return CurrentLog()
}

// CurrentLog opens the log that the installer has set up.
func CurrentLog() (*Log, error) {
	port, err := os.OpenFile(comPort, os.O_WRONLY, 0)
	if os.IsNotExist(err) {
		return &Log{}, nil
	}
	return &Log{port}, err
}

// Printf adds lines to the log.
func (l *Log) Printf(format string, args ...any) {
	if l.port == nil {
		return
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(fmt.Sprintf(format, args...), "\n"), "\n") {
		fmt.Fprintf(l.port, "%s cpu0:65536)%s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), line)
	}
}

// lineWriter logs each line written to it, behind a prefix.
type lineWriter struct {
	log    *Log
	prefix string
	rest   []byte // of a line that is not complete
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		w.log.Printf("%s: %s", w.prefix, line)
		w.rest = rest
	}
}

// BootOptions are the tokens of kernelopt=; one without "=" has an empty value.
// The last of a repeated one counts.
type BootOptions map[string]string

// ParseBootOptions splits a kernel command line.
func ParseBootOptions(line string) BootOptions {
	o := BootOptions{}
	for _, token := range strings.Fields(line) {
		key, value, _ := strings.Cut(token, "=")
		o[key] = value
	}
	return o
}

// Has reports whether an option was given.
func (o BootOptions) Has(key string) bool { _, ok := o[key]; return ok }
