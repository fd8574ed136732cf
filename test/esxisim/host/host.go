package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/tinylinux"
)

// services have a script in /etc/init.d.
var services = []string{"hostd", "vpxa", "rhttpproxy", "ntpd", "SSH", "ESXShell", "DCUI", "vmsyslogd", "sfcbd-watchdog"}

// applets are the programs of ESXi's busybox that scripts may rely on.
var applets = strings.Fields(`[ [[ awk base64 basename cat chgrp chmod chown chvt cksum clear cp crond cut date dd df diff dirname
	dmesg du echo egrep env expr false fdisk find fgrep getty grep groups gunzip gzip head hexdump hostname id inetd init kill
	ln ls lzop md5sum mkdir mkfifo mknod mktemp more mv nohup nslookup od printf ps pwd readlink reset resize rm rmdir sed
	seq setsid sh sha1sum sha256sum sha512sum sleep sort stat stty sum sync tail tar taskset tee test time timeout touch tr
	true uname uniq unzip uptime usleep uudecode uuencode vi watch wc wget which who xargs zcat`)

// Options describe a host to make.
type Options struct {
	Dir      string // an empty directory, or one to be made
	Tools    string // what BuildTools returned
	Hardware Hardware
}

// BuildTools compiles the multi-call program into dir and puts the links that
// make a PATH beside it. Tests do this once; all their hosts share it.
func BuildTools(ctx context.Context, dir string) (string, error) {
	text, err := tinylinux.Build(ctx, "./test/esxisim/hosttools")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, program), text, 0o755); err != nil {
		return "", err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	// The interpreter itself: what is called python3 may be a script that picks one.
	python, err := exec.CommandContext(ctx, "python3", "-c", "import sys; print(sys.executable, end='')").Output()
	if err != nil {
		return "", fmt.Errorf("cannot find python3: %w", err)
	}
	links := map[string]string{"python": string(python), "python3": string(python)}
	for _, name := range applets {
		links[name] = busybox
	}
	names := exec.CommandContext(ctx, filepath.Join(dir, program))
	names.Args[0] = "names"
	out, err := names.Output()
	if err != nil {
		return "", fmt.Errorf("cannot ask for the tools' names: %w", err)
	}
	for _, name := range strings.Fields(string(out)) {
		links[name] = filepath.Join(dir, program)
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, "bin", name)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// program is the multi-call program's name.
const program = "hosttools"

// New makes a host on which ESXi was installed from an image and that boots for
// the first time.
func New(o Options) (*Host, error) {
	if err := o.Hardware.complete(); err != nil {
		return nil, err
	}
	h := &Host{Dir: o.Dir, hw: o.Hardware, tools: o.Tools}
	if err := os.MkdirAll(h.Root(), 0o755); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(h.hw, "", " ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "hardware.json"), text, 0o644); err != nil {
		return nil, err
	}
	m, err := newMachine(&h.hw, h.Root())
	if err != nil {
		return nil, err
	}
	if err := m.install(); err != nil {
		return nil, err
	}
	if err := h.write(record{State: *m.State, Runtime: *m.Runtime}); err != nil {
		return nil, err
	}
	for _, name := range services {
		if err := os.Symlink(filepath.Join(h.tools, program), h.Path("/etc/init.d/"+name)); err != nil {
			return nil, err
		}
	}
	return h, os.Symlink(filepath.Join(h.tools, "bin"), filepath.Join(h.Dir, "bin"))
}

// Env is the environment of a program that stays outside: only the host's tools
// are in the PATH.
func (h *Host) Env() []string {
	return []string{"PATH=" + filepath.Join(h.Dir, "bin"), Variable + "=" + h.Dir, "HOME=/", "LC_ALL=C"}
}

// Command is a tool of the host, called from outside.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(h.Dir, "bin", name), args...)
	cmd.Env, cmd.Dir = h.Env(), h.Root()
	return cmd
}

// Esxcli runs esxcli and returns what it prints, on either stream.
func (h *Host) Esxcli(ctx context.Context, args ...string) (string, error) {
	out, err := h.Command(ctx, "esxcli", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("esxcli %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Commands returns the calls that change something, without those that only
// ask, as text.
func (h *Host) Commands() ([]string, error) {
	calls, err := h.Calls()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, c := range calls {
		last := c.Argv[len(c.Argv)-1]
		asks := slices.ContainsFunc(c.Argv, func(a string) bool { return a == "list" || a == "get" }) || strings.HasPrefix(last, "get")
		if c.Exit == 0 && !asks {
			lines = append(lines, c.String())
		}
	}
	return lines, nil
}
