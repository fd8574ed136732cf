// Package doctor finds out what on this host, or in this configuration, would
// keep esxid from working, and says what to do about it. It changes nothing.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/nbd"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/vm"
)

// Level says how bad a finding is.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // works, with a drawback
	Problem Level = "problem" // builds or publications will fail
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Detail string `json:"detail"` // what was found and, if it is not ok, what to do
}

// checkTimeout bounds each check that talks to somebody else.
const checkTimeout = time.Minute

// Examine makes all checks, in a fixed order.
func Examine(ctx context.Context, cfg *config.Config, targets []publish.Publisher) []Finding {
	var all []Finding
	add := func(f ...Finding) { all = append(all, f...) }
	add(tools(ctx, cfg)...)
	add(accel(ctx, cfg))
	add(nbdAccess(ctx, cfg))
	add(memory("/proc/meminfo"))
	add(directories(cfg)...)
	add(space(cfg.StateDir))
	add(incoming(filepath.Join(cfg.StateDir, "incoming"))...)
	add(publishing(ctx, targets)...)
	return all
}

// tools are the programs esxid calls and the argument that prints a version.
func tools(ctx context.Context, cfg *config.Config) []Finding {
	var out []Finding
	for _, name := range []string{cfg.VM.QEMU, "qemu-img", "qemu-io", "mcopy"} {
		f := Finding{Check: filepath.Base(name), Level: OK}
		text, err := command.Output(ctx, name, "--version")
		if err != nil {
			f.Level, f.Detail = Problem, err.Error()
		} else {
			f.Detail, _, _ = strings.Cut(string(text), "\n")
		}
		out = append(out, f)
	}
	return out
}

func accel(ctx context.Context, cfg *config.Config) Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	resolved, why, err := vm.Resolve(ctx, cfg.VM.Accel)
	switch {
	case err != nil:
		return Finding{"accel", Problem, err.Error()}
	case why != "":
		return Finding{"accel", Warning, why}
	case resolved == "tcg":
		return Finding{"accel", Warning, `vm.accel = "tcg": installations take hours; set it to "kvm" on a host that has KVM`}
	}
	return Finding{"accel", OK, "KVM starts a guest"}
}

func nbdAccess(ctx context.Context, cfg *config.Config) Finding {
	if cfg.Image.Access == "direct" {
		return Finding{"nbd", OK, `not used: image.access = "direct"`}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := nbd.Available(ctx)
	switch {
	case err == nil:
		return Finding{"nbd", OK, "the kernel's network block device can be used"}
	case cfg.Image.Access == "auto":
		return Finding{"nbd", OK, fmt.Sprintf("not used, images are edited directly: %v", err)}
	}
	return Finding{"nbd", Problem, err.Error()}
}

// A VM of the largest and of the smallest profile, with 1 GiB for the rest of
// the host, in MiB.
const (
	wantMemory  = 9 << 10
	leastMemory = 5 << 10
)

func memory(path string) Finding {
	f := Finding{Check: "memory"}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Level, f.Detail = Warning, err.Error()
		return f
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n != 1 {
			continue
		}
		mib := kib >> 10
		f.Level, f.Detail = OK, fmt.Sprintf("%d MiB available", mib)
		switch {
		case mib < leastMemory:
			f.Level = Problem
			f.Detail += fmt.Sprintf("; no version can be installed with less than %d MiB", leastMemory)
		case mib < wantMemory:
			f.Level = Warning
			f.Detail += fmt.Sprintf("; enough for 6.x, later versions need %d MiB: free some, or lower memory_mib in [vm.profile]", wantMemory)
		}
		return f
	}
	f.Level, f.Detail = Warning, path+" does not say how much memory is available"
	return f
}

// directories checks that what must be written can be, and that what must be
// private is.
func directories(cfg *config.Config) []Finding {
	var out []Finding
	for _, d := range []struct {
		path    string
		write   bool
		private bool
	}{
		{cfg.StateDir, true, false},
		{filepath.Join(cfg.StateDir, "incoming"), true, false},
		{filepath.Join(cfg.StateDir, "rejected"), true, false},
		{filepath.Join(cfg.StateDir, "isos"), true, false},
		{filepath.Join(cfg.StateDir, "builds"), true, true},
		{filepath.Join(cfg.StateDir, "images"), true, true},
		{cfg.KickstartDir, false, false},
	} {
		out = append(out, directory(d.path, d.write, d.private))
	}
	return out
}

func directory(path string, write, private bool) Finding {
	f := Finding{Check: path, Level: OK, Detail: "can be used"}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Level, f.Detail = Warning, "is not there yet: the service makes it when it starts"
		return f
	case err != nil:
		f.Level, f.Detail = Problem, err.Error()
		return f
	case !info.IsDir():
		f.Level, f.Detail = Problem, "is not a directory: move it away"
		return f
	}
	mode := uint32(unix.R_OK | unix.X_OK)
	if write {
		mode |= unix.W_OK
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS); err != nil {
		f.Level = Problem
		f.Detail = fmt.Sprintf("the user %d cannot use it: %v: check its owner and mode (%v)", os.Geteuid(), err, info.Mode().Perm())
	} else if private && info.Mode().Perm()&0o007 != 0 {
		f.Level, f.Detail = Warning, fmt.Sprintf("is open to every user (%v): chmod o= %s", info.Mode().Perm(), path)
	}
	return f
}

// A build's disk and image, and the ISO, in bytes; the disk is sparse.
const wantSpace = 8 << 30

func space(stateDir string) Finding {
	f := Finding{Check: "disk space"}
	dir := stateDir
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		f.Level, f.Detail = Problem, fmt.Sprintf("cannot measure %s: %v", stateDir, err)
		return f
	}
	free := int64(st.Bavail) * st.Bsize
	f.Level, f.Detail = OK, fmt.Sprintf("%d GiB free for %s", free>>30, stateDir)
	if free < wantSpace {
		f.Level = Warning
		f.Detail += fmt.Sprintf("; a build of a large OEM ISO may need %d GiB: make room, or lower [retention]", wantSpace>>30)
	}
	return f
}

// maxListed bounds how many files of incoming are looked at.
const maxListed = 1000

// incoming reports files that wait there because they cannot be read.
func incoming(dir string) []Finding {
	d, err := os.Open(dir)
	if err != nil {
		return nil // directories has said so
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxListed)
	var out []Finding
	for _, name := range names {
		path := filepath.Join(dir, name)
		if !strings.EqualFold(filepath.Ext(name), ".iso") {
			continue
		}
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW); err != nil {
			out = append(out, Finding{path, Problem, fmt.Sprintf("cannot be read: %v: chmod a+r it", err)})
		}
	}
	return out
}

func publishing(ctx context.Context, targets []publish.Publisher) []Finding {
	if len(targets) == 0 {
		return []Finding{{"targets", Warning, "none is configured: images stay in the state directory; see [[target]] in config.example.toml"}}
	}
	var out []Finding
	for _, t := range targets {
		f := Finding{"target " + t.Name(), OK, "can be published to"}
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		if err := t.Check(ctx); err != nil {
			f.Level, f.Detail = Problem, err.Error()
		}
		cancel()
		out = append(out, f)
	}
	return out
}
