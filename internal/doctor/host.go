package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/nbd"
	"github.com/esxid/esxid/internal/vm"
)

// checkTimeout bounds each check that talks to somebody else.
const checkTimeout = time.Minute

// tools are the programs esxid calls and the argument that prints a version.
func tools(ctx context.Context, cfg *config.Config) []Finding {
	names := []string{cfg.VM.QEMU, "qemu-img", "qemu-io", "mcopy"}
	if cfg.Image.Access == "nbd" {
		names = append(names, "qemu-nbd")
	}
	var out []Finding
	for _, name := range names {
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

// kvmDevice is what KVM is used through, and kvmGroup whose it is on Debian: the
// unit of an installation has that group.
const (
	kvmDevice = "/dev/kvm"
	kvmGroup  = "kvm"
)

func accel(ctx context.Context, service account, cfg *config.Config) Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	resolved, why, err := vm.Resolve(ctx, cfg.VM.QEMU, cfg.VM.Accel)
	mine := service.self || os.Geteuid() == 0
	return judgeAccel(service, kvmDevice, mine, resolved, why, err)
}

// judgeAccel says what vm.Resolve has found. mine says whether what this user may do
// is what counts; root may do all that the service may.
func judgeAccel(service account, device string, mine bool, resolved, why string, err error) Finding {
	installs := service.with(kvmGroup)
	switch {
	case service.installed && (err != nil && errors.Is(err, fs.ErrPermission) || err == nil && why != "" && !mine):
		if err := installs.may(device, unix.R_OK|unix.W_OK); err != nil {
			return Finding{"accel", levelOf(err), fmt.Sprintf("%v: installations use it as the group %s: chgrp %[2]s %s; chmod 0660 %[3]s", err, kvmGroup, device)}
		}
		return Finding{"accel", Unknown, "installations may use " + device + ", this user may not; whether a guest runs with it: " + asRoot}
	case err != nil:
		return Finding{"accel", Problem, err.Error()}
	case why != "":
		return Finding{"accel", Warning, why}
	case resolved == "tcg":
		return Finding{"accel", Warning, `vm.accel = "tcg": installations take hours; set it to "kvm" on a host that has KVM`}
	}
	if service.installed {
		if err := installs.may(device, unix.R_OK|unix.W_OK); err != nil {
			return Finding{"accel", levelOf(err), fmt.Sprintf("KVM starts a guest, but %v: chgrp %s %s; chmod 0660 %[3]s", err, kvmGroup, device)}
		}
	}
	return Finding{"accel", OK, "KVM starts a guest"}
}

func nbdAccess(ctx context.Context, service account, cfg *config.Config) Finding {
	if cfg.Image.Access == "direct" {
		return Finding{"nbd", OK, `not used: image.access = "direct"`}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := nbd.Available(ctx)
	var release string
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		release = unix.ByteSliceToString(uts.Release[:])
	}
	return judgeNBD(service, os.Geteuid() == 0, cfg.Image.Access, err, hasModule("/", release, "nbd"), release)
}

// judgeNBD says what nbd.Available has found. Of those who ask only root may do what
// the unit that edits disks may.
func judgeNBD(service account, root bool, access string, err error, module bool, release string) Finding {
	notRoot := fault.ClassOf(err) == fault.NotPermitted && service.installed && !root
	switch {
	case err == nil:
		return Finding{"nbd", OK, "the kernel's network block device can be used"}
	case notRoot && module:
		return Finding{"nbd", Unknown, "the kernel has the module; whether devices can be used: " + asRoot}
	case !module:
		err = fmt.Errorf("the kernel %s has no module nbd: install the package of the kernel's modules (linux-image-amd64; on Ubuntu linux-modules-extra-%[1]s)", release)
	}
	if access == "auto" {
		return Finding{"nbd", OK, fmt.Sprintf("not used, images are edited directly: %v", err)}
	}
	return Finding{"nbd", Problem, err.Error()}
}

// hasModule says whether a kernel has a module: loaded, built in or on the disk.
func hasModule(root, release, name string) bool {
	if _, err := os.Stat(filepath.Join(root, "sys/module", name)); err == nil {
		return true
	}
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		text, err := os.ReadFile(filepath.Join(root, "lib/modules", release, list))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			path, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			base, _, _ := strings.Cut(filepath.Base(path), ".")
			if base == name {
				return true
			}
		}
	}
	return false
}

// restOfHost is what a host needs beside the virtual machine, in MiB.
const restOfHost = 1 << 10

// memory compares what is available (path is /proc/meminfo) with what the virtual
// machines of the configured profiles get.
func memory(path string, cfg *config.Config) Finding {
	mib, err := availableMemory(path)
	if err != nil {
		return Finding{"memory", Warning, err.Error()}
	}
	profiles, err := build.ProfileMemory(cfg.VM.Profile)
	if err != nil {
		return Finding{"memory", Problem, err.Error()}
	}
	var enough, short []string
	for _, version := range slices.Sorted(maps.Keys(profiles)) {
		if need := profiles[version] + restOfHost; need > mib {
			short = append(short, fmt.Sprintf("%s needs %d MiB", version, need))
		} else {
			enough = append(enough, version)
		}
	}
	f := Finding{"memory", OK, fmt.Sprintf("%d MiB available", mib)}
	switch {
	case len(enough) == 0:
		f.Level = Problem
		f.Detail += fmt.Sprintf("; no version can be installed: %s: stop what else runs here, or give the host more", strings.Join(short, ", "))
	case len(short) > 0:
		f.Level = Warning
		f.Detail += fmt.Sprintf("; enough for %s, but %s: free some, or set a lower memory_mib in [vm.profile.\"VERSION\"]",
			strings.Join(enough, ", "), strings.Join(short, ", "))
	}
	return f
}

// availableMemory reads from a file like /proc/meminfo what is available, in MiB.
func availableMemory(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib >> 10, nil
		}
	}
	return 0, fmt.Errorf("%s does not say how much memory is available", path)
}

// leastSpace is what even the smallest image needs, in bytes.
const leastSpace = 1 << 30

func space(stateDir string) Finding {
	f := Finding{Check: "disk space"}
	dir := stateDir
	free, err := build.FreeSpace(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		free, err = build.FreeSpace(dir)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.Level, f.Detail = Unknown, fmt.Sprintf("%v; %s", err, asRoot)
		return f
	case err != nil:
		f.Level, f.Detail = Problem, err.Error()
		return f
	}
	f.Level, f.Detail = OK, fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), stateDir)
	if free < build.WantSpace {
		f.Level = Warning
		if free < leastSpace {
			f.Level = Problem
		}
		f.Detail += fmt.Sprintf("; a build of a large OEM ISO may need %d GiB: make room, or lower [retention]", int64(build.WantSpace>>30))
	}
	return f
}
