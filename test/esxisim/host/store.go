package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Variable names the environment variable with the host's directory, for the
// tools.
const Variable = "ESXISIM_HOST"

// Host is a host in a directory.
type Host struct {
	Dir   string
	hw    Hardware
	tools string // what BuildTools returned
}

// Call is one call of a tool.
type Call struct {
	Argv   []string `json:"argv"`
	Exit   int      `json:"exit"`
	Output string   `json:"output,omitempty"` // of a call that failed
}

// String is the call as a shell would have it, without quotes, and how it failed.
func (c Call) String() string {
	line := strings.Join(c.Argv, " ")
	if c.Exit != 0 {
		line += fmt.Sprintf(" -> exit status %d: %s", c.Exit, strings.TrimSpace(c.Output))
	}
	return line
}

// record is the content of state.json.
type record struct {
	State   State   `json:"state"`
	Runtime Runtime `json:"runtime"`
}

// Open opens a host that New has made.
func Open(dir string) (*Host, error) {
	hw, err := ReadHardware(filepath.Join(dir, "hardware.json"))
	if err != nil {
		return nil, err
	}
	bin, err := os.Readlink(filepath.Join(dir, "bin"))
	return &Host{Dir: dir, hw: hw, tools: filepath.Dir(bin)}, err
}

// Hardware returns what the host was made with, with its defaults filled in.
func (h *Host) Hardware() Hardware { return h.hw }

// Root is the directory that stands for the host's /.
func (h *Host) Root() string { return filepath.Join(h.Dir, "root") }

// Path is the place of one of the host's files: Path("/etc/ntp.conf").
func (h *Host) Path(name string) string { return filepath.Join(h.Root(), name) }

// Run lets a tool work on the host, alone. output collects what the tool prints;
// run returns its exit status, and nothing changes unless that is 0.
func (h *Host) Run(argv []string, output *bytes.Buffer, run func(*Machine) int) (int, error) {
	exit, fault, err := h.call(argv, output, run)
	if err != nil || fault == nil {
		return exit, err
	}
	// The host is free again: a tool that hangs does not stop the others.
	switch fault.Way {
	case Hang:
		time.Sleep(time.Hour)
	case Kill:
		return exit, unix.Kill(os.Getppid(), unix.SIGKILL)
	}
	return exit, nil
}

func (h *Host) call(argv []string, output *bytes.Buffer, run func(*Machine) int) (int, *Fault, error) {
	unlock, err := h.lock()
	if err != nil {
		return 0, nil, err
	}
	defer unlock()
	m, before, err := h.load()
	if err != nil {
		return 0, nil, err
	}
	exit, fault := 0, m.fault(argv)
	if fault == nil || fault.Late {
		exit = run(m)
	}
	done := exit == 0
	if fault != nil {
		output.Reset()
		fmt.Fprintln(output, fault.Text)
		done = done && fault.Late
		exit = 1
		if fault.Way == Nonsense {
			exit = 0
		}
	}
	if err := h.save(m, before, done); err != nil {
		return 0, nil, err
	}
	call := Call{Argv: argv, Exit: exit}
	if exit != 0 {
		call.Output = output.String()
	}
	return exit, fault, h.log(call)
}

func (h *Host) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(h.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", h.Dir, err)
	}
	return func() { f.Close() }, nil
}

// load reads the state and returns it also as text, to see later what changed.
func (h *Host) load() (*Machine, *record, error) {
	text, err := os.ReadFile(filepath.Join(h.Dir, "state.json"))
	if err != nil {
		return nil, nil, err
	}
	var now, before record
	for _, r := range []*record{&now, &before} {
		if err := json.Unmarshal(text, r); err != nil {
			return nil, nil, fmt.Errorf("cannot read the state: %w", err)
		}
	}
	m, err := newMachine(&h.hw, h.Root())
	if err != nil {
		return nil, nil, err
	}
	m.State, m.Runtime = &now.State, &now.Runtime
	if m.Runtime.Faults == nil {
		m.Runtime.Faults = map[string]int{}
	}
	if m.Runtime.LeasesMS == nil {
		m.Runtime.LeasesMS = map[string]int64{}
	}
	return m, &before, nil
}

// save writes what changed, all of it or nothing. A call that failed changes
// only how often faults were met.
func (h *Host) save(m *Machine, before *record, ok bool) error {
	r := record{State: *m.State, Runtime: *m.Runtime}
	if !ok {
		r.State = before.State
	}
	old, err := json.Marshal(settings(before.State))
	if err != nil {
		return err
	}
	text, err := json.Marshal(settings(r.State))
	if err != nil {
		return err
	}
	if !bytes.Equal(old, text) && before.State.Unsaved == r.State.Unsaved {
		r.State.Unsaved = true
	}
	if reflect.DeepEqual(r, *before) {
		return nil
	}
	return h.write(r)
}

// settings is the part of the state that auto-backup.sh saves: not what is on
// disks anyway.
func settings(s State) State {
	s.Log, s.Stopped, s.Disks, s.Volumes = nil, "", nil, nil
	return s
}

func (h *Host) write(r record) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(h.Dir, "state.json")
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (h *Host) log(c Call) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(h.Dir, "calls.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Close()
}

// Calls returns all calls so far, those that failed too.
func (h *Host) Calls() ([]Call, error) {
	text, err := os.ReadFile(filepath.Join(h.Dir, "calls.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var calls []Call
	for line := range bytes.Lines(text) {
		var c Call
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, err
		}
		calls = append(calls, c)
	}
	return calls, nil
}

// State returns what is configured now, with the partition tables of disks
// that have a file.
func (h *Host) State() (*State, error) {
	m, err := h.Machine()
	if err != nil {
		return nil, err
	}
	return m.State, nil
}

// Machine returns a copy of the host as it is now. Changes to it are lost.
func (h *Host) Machine() (*Machine, error) {
	unlock, err := h.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	m, _, err := h.load()
	if err != nil {
		return nil, err
	}
	for i := range m.State.Disks {
		d := &m.State.Disks[i]
		if d.Table, err = m.Table(m.Device(d.Name)); err != nil {
			return nil, err
		}
	}
	if s := m.State.Service("ntpd"); s != nil && !m.AtLeast(7) {
		m.State.NTP.Enabled = s.Running && s.OnBoot
	}
	return m, nil
}

// Change changes the state as no tool can, to prepare a test.
func (h *Host) Change(f func(*Machine)) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	m, _, err := h.load()
	if err != nil {
		return err
	}
	f(m)
	return h.write(record{State: *m.State, Runtime: *m.Runtime})
}

// Boot notes that the host was just switched on.
func (h *Host) Boot() error {
	return h.Change(func(m *Machine) {
		m.Runtime.BootedMS, m.Runtime.HostdMS = time.Now().UnixMilli(), time.Now().UnixMilli()
	})
}

// fault is what the hardware file wants to happen to a call, nil if nothing.
func (m *Machine) fault(argv []string) *Fault {
	for i := range m.Hardware.Faults {
		f := &m.Hardware.Faults[i]
		if !f.Concerns(argv) {
			continue
		}
		key := fmt.Sprint(i)
		m.Runtime.Faults[key]++
		if n := m.Runtime.Faults[key] - f.Skip; n > 0 && (f.Times < 0 || n <= f.Times) {
			return f
		}
	}
	return nil
}

// Concerns reports whether a call begins like the fault's command.
func (f *Fault) Concerns(argv []string) bool {
	return strings.HasPrefix(strings.Join(argv, " ")+" ", strings.TrimSuffix(f.Command, " ")+" ")
}
