// Command hosttools is every program of ESXi that a simulated host has: it goes
// by the name it is called by. The host is the directory that the environment
// names (host.Variable).
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/esxcli"
	"github.com/esxid/esxid/test/esxisim/host"
)

// tool is a program: it prints to out, which is shown only once it is done, and
// returns its exit status.
type tool func(t *task) int

// task is one call of a tool.
type task struct {
	*host.Machine
	args []string
	in   io.Reader
	out  *bytes.Buffer
}

func (t *task) printf(format string, args ...any) { fmt.Fprintf(t.out, format, args...) }

// fail prints a reason and returns the status for it.
func (t *task) fail(format string, args ...any) int {
	t.printf(format+"\n", args...)
	return 1
}

var tools = map[string]tool{
	"esxcli":                runEsxcli,
	"localcli":              runLocalcli,
	"partedUtil":            partedUtil,
	"vmkfstools":            vmkfstools,
	"vim-cmd":               vimCmd,
	"vsish":                 vsish,
	"vmware":                vmware,
	"logger":                logger,
	"esxcfg-scsidevs":       scsidevs,
	"esxcfg-volume":         volumes,
	"esxcfg-advcfg":         advcfg,
	"generate-certificates": generateCertificates,
	"auto-backup.sh":        autoBackup,
	"backup.sh":             autoBackup,
	"services.sh":           restartServices,
	"chkconfig":             chkconfig,
	"reboot":                stop,
	"poweroff":              stop,
	"halt":                  stop,
}

func main() {
	var code int
	var err error
	switch filepath.Base(os.Args[0]) {
	case "enter":
		code, err = enter(os.Args)
	case "boot":
		err = boot(os.Args, os.Stdout, os.Stderr)
	case "names": // of all links that are to be made
		fmt.Println("boot", strings.Join(slices.Collect(maps.Keys(tools)), " "))
	default:
		code, err = run(os.Getenv(host.Variable), os.Args, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hosttools:", err)
		os.Exit(99)
	}
	os.Exit(code)
}

// run runs a tool on the host in dir and returns its exit status. An error is
// the simulator's own.
func run(dir string, argv []string, in io.Reader, out io.Writer) (int, error) {
	name := filepath.Base(argv[0])
	if dir == "" {
		return 0, errors.New(host.Variable + " is not set")
	}
	work, ok := tools[name]
	if !ok {
		if filepath.Base(filepath.Dir(argv[0])) != "init.d" {
			return 0, fmt.Errorf("there is no tool %s", name)
		}
		work = service
	}
	h, err := host.Open(dir)
	if err != nil {
		return 0, err
	}
	argv = append([]string{name}, argv[1:]...)
	var text bytes.Buffer
	code, err := h.Run(argv, &text, func(m *host.Machine) int {
		return work(&task{Machine: m, args: argv, in: in, out: &text})
	})
	if err != nil {
		return 0, err
	}
	_, err = out.Write(text.Bytes())
	return code, err
}

// runEsxcli needs hostd, which localcli does without.
func runEsxcli(t *task) int {
	if s := t.State.Service("hostd"); s == nil || !s.Running {
		return t.fail("Connect to localhost failed: Connection failure.")
	}
	return esxcli.Main(t.Machine, t.args[1:], t.in, t.out)
}

func runLocalcli(t *task) int { return esxcli.Main(t.Machine, t.args[1:], t.in, t.out) }
