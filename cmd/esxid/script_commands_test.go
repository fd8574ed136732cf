package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/kickstart"
	"github.com/esxid/esxid/test/esxisim"
)

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func fails(ts *testscript.TestScript, neg bool, args []string) {
	exits(ts, neg, args)
	if args[0] == "0" {
		ts.Fatalf("fails is for failures")
	}
	if text := ts.ReadFile("stdout"); text != "" {
		ts.Fatalf("a failed command printed a result")
	}
	var messages []string
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		if message, ok := strings.CutPrefix(line, "esxid: "); ok {
			messages = append(messages, strings.TrimSpace(message))
		} else if len(messages) > 0 {
			ts.Fatalf("something stands behind the error's message: %q", line)
		}
	}
	if len(messages) != 1 {
		ts.Fatalf("%d messages, want one: %q", len(messages), messages)
	}
	for part := range strings.SplitSeq(messages[0], ": ") {
		if len(part) > 20 && strings.Count(ts.ReadFile("stderr"), part) > 1 {
			ts.Fatalf("stderr says %q twice", part)
		}
	}
}

// failsFull runs a program with /dev/full as its stdout, where every write fails
// as on a full disk.
func failsFull(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: fails-full CODE esxid ARGS...")
	}
	fails(ts, neg, append([]string{args[0], "sh", "-c", `exec "$@" >/dev/full`, "sh"}, args[1:]...))
}

func mkiso(ts *testscript.TestScript, _ bool, args []string) {
	o := esxisim.Options{Version: "6.7", Build: "8169922", PayloadMiB: 4}
	for ; len(args) > 2; args = args[2:] {
		switch args[0] {
		case "--version":
			o.Version, o.Build = args[1], ""
		case "--build":
			o.Build = args[1]
		case "--oem":
			o.OEM = args[1]
		default:
			ts.Fatalf("unknown flag %s", args[0])
		}
	}
	if len(args) != 1 {
		ts.Fatalf("usage: mkiso [--version V] [--build B] [--oem O] ISO")
	}
	made, err := shared.iso(o)
	ts.Check(err)
	ts.Check(copyFile(made, ts.MkAbs(args[0])))
}

// copyFile copies, because a hard link would change the original's inode under
// another script's esxid.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// preinstall does with the host's programs what an installation in a virtual
// machine leaves, and then the build's own steps up to the one asked for.
func preinstall(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || len(args) > 4 {
		ts.Fatalf("usage: preinstall ISO DIR [STEP [CONFIG]]")
	}
	isoFile, dir, last, cfg := ts.MkAbs(args[0]), ts.MkAbs(args[1]), build.StepInstall, config.Default()
	if len(args) > 2 {
		last = args[2]
	}
	if len(args) > 3 {
		var err error
		cfg, err = config.Load(ts.MkAbs(args[3]))
		ts.Check(err)
	}
	info, _, err := identify(context.Background(), isoFile, nil)
	ts.Check(err)
	ts.Check(os.MkdirAll(dir, 0o700))
	store, err := build.OpenStore(filepath.Join(dir, "builds"), filepath.Join(dir, "images"))
	ts.Check(err)
	secret, err := store.Secret()
	ts.Check(err)
	src, err := kickstart.Select(cfg.KickstartDir, kickstart.Version{Number: info.Version, Build: info.Build})
	ts.Check(err)
	plan, err := build.NewPlan(cfg, info, src, secret)
	ts.Check(err)
	b, err := store.Create(plan, src, isoFile, time.Now())
	ts.Check(err)
	if last == "none" {
		return
	}

	// The steps that need no virtual machine are run; the disk of the one that
	// does is made.
	makeUntil(ts, cfg, store, b, build.StepKickstart)
	if last == build.StepKickstart {
		return
	}
	ts.Check(esxisim.WriteDisk(filepath.Join(store.Dir(b.ID()), "disk.raw"), esxisim.DiskOptions{
		Options:       esxisim.Options{Version: info.Version, Build: info.Build, OEM: info.Vendor, PayloadMiB: 4},
		LayoutOptions: esxisim.LayoutOptions{NoVMFS: true},
	}))
	b.Steps[build.StepInstall] = build.StepRecord{Finished: time.Now()}
	ts.Check(store.Save(b))
	switch last {
	case build.StepInstall:
	case "payload", "record":
		makeUntil(ts, cfg, store, b, build.StepCustomize)
		delete(b.Steps, build.StepCustomize)
		ts.Check(store.Save(b))
		if last == "payload" {
			saved, err := os.Open(filepath.Join(store.Dir(b.ID()), "esp.orig"))
			ts.Check(err)
			defer saved.Close()
			disk, err := os.OpenFile(filepath.Join(store.Dir(b.ID()), "disk.raw"), os.O_RDWR, 0)
			ts.Check(err)
			defer disk.Close()
			ts.Check(image.RestoreRegion(context.Background(), saved, disk, espStart))
		}
	default:
		makeUntil(ts, cfg, store, b, last)
	}
}

// espStart is where the first partition begins, in bytes.
const espStart = 64 * 512

// admitted does what the service does with an ISO it accepts.
func admitted(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: admitted ISO STATE")
	}
	info, _, err := identify(context.Background(), ts.MkAbs(args[0]), nil)
	ts.Check(err)
	dir := filepath.Join(ts.MkAbs(args[1]), "isos")
	ts.Check(os.MkdirAll(dir, 0o750))
	record, err := json.Marshal(struct {
		iso.Info
		Added time.Time `json:"added"`
	}{info, time.Now()})
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, info.SHA256+".json"), record, 0o640))
	ts.Check(copyFile(ts.MkAbs(args[0]), filepath.Join(dir, info.SHA256+".iso")))
}

// makeUntil runs the steps of a build up to last.
func makeUntil(ts *testscript.TestScript, cfg *config.Config, store *build.Store, b *build.Build, last string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &build.Runner{Config: cfg, Store: store, Version: version, Report: func(e build.Event) {
		if e.Step == last && e.State == build.EventDone {
			cancel()
		}
	}}
	if err := r.Make(ctx, b); !errors.Is(err, context.Canceled) {
		ts.Check(err)
	}
}

func tmpfs(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: tmpfs SIZE DIR")
	}
	dir := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(dir, 0o755))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[0]); err != nil {
		ts.Fatalf("cannot mount a small tmpfs (tests run as root): %v", err)
	}
	ts.Defer(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			ts.Logf("cannot unmount %s: %v", dir, err)
		}
	})
}

const filler = "filler"

func fill(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: fill DIR KIB")
	}
	leave, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	f, err := os.Create(filepath.Join(dir, filler))
	ts.Check(err)
	defer f.Close()
	var st unix.Statfs_t
	ts.Check(unix.Statfs(dir, &st))
	ts.Check(unix.Fallocate(int(f.Fd()), 0, 0, max(1, int64(st.Bavail)*st.Bsize-leave<<10)))
}

func empty(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Remove(filepath.Join(ts.MkAbs(args[0]), filler)))
}

func copyTree(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[1])), 0o755))
	out, err := exec.Command("/bin/cp", "-a", "--sparse=always", ts.MkAbs(args[0]), ts.MkAbs(args[1])).CombinedOutput()
	if err != nil {
		ts.Fatalf("%v: %s", err, out)
	}
}

func mkfifo(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(unix.Mkfifo(ts.MkAbs(args[0]), 0o644))
}

func truncate(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[1]), os.O_CREATE|os.O_RDWR, 0o644)
	ts.Check(err)
	defer f.Close()
	ts.Check(f.Truncate(size))
}

func expand(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: toml OUT IN")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(os.Expand(ts.ReadFile(args[1]), ts.Getenv)), 0o600))
}

func replace(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 || len(args[0]) != len(args[1]) {
		ts.Fatalf("usage: replace OLD NEW FILE, with texts of one length")
	}
	text, err := os.ReadFile(ts.MkAbs(args[2]))
	ts.Check(err)
	if !bytes.Contains(text, []byte(args[0])) {
		ts.Fatalf("%s has no %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), bytes.ReplaceAll(text, []byte(args[0]), []byte(args[1])), 0o644))
}

func flock(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	ts.Defer(func() { f.Close() })
}

// awaitLimit is generous because the machine may be busy; usual is a moment.
const awaitLimit = time.Minute

func await(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	until(ts, args[0]+" is there", func() bool {
		_, err := os.Lstat(path)
		return err == nil
	})
}

func awaitGone(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	until(ts, args[0]+" is gone", func() bool {
		_, err := os.Lstat(path)
		return err != nil
	})
}

// awaitText waits until a file has a line in it that matches.
func awaitText(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	path := ts.MkAbs(args[1])
	until(ts, args[0]+" is in "+args[1], func() bool {
		text, err := os.ReadFile(path)
		return err == nil && pattern.Match(text)
	})
}

// hangUp sends SIGHUP to the program that runs in the background.
func hangUp(ts *testscript.TestScript, _ bool, _ []string) {
	running := ts.BackgroundCmds()
	ts.Check(running[len(running)-1].Process.Signal(unix.SIGHUP))
}

func awaitOpen(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	last := ""
	until(ts, args[0]+" is open", func() bool {
		fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
		ts.Check(err)
		at := slices.IndexFunc(fds, func(fd string) bool {
			name, err := os.Readlink(fd)
			return err == nil && name == path
		})
		if at < 0 {
			last = ""
			return false
		}
		still := fds[at] == last
		last = fds[at]
		return still
	})
}

func until(ts *testscript.TestScript, what string, ok func() bool) {
	for deadline := time.Now().Add(awaitLimit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v: %s", awaitLimit, what)
		}
	}
}

func left(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, e := range entries {
		if e.Name() != filler {
			names = append(names, e.Name())
		}
	}
	if !slices.Equal(names, args[1:]) {
		ts.Fatalf("%s holds %q, want %q", args[0], names, args[1:])
	}
}

func sameFile(a, b string) (bool, error) {
	x, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	y, err := os.ReadFile(b)
	return bytes.Equal(x, y), err
}
