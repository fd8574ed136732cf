package tinylinux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/esxid/esxid/internal/command"
)

// Machine is a virtual machine that runs one command and is gone.
type Machine struct {
	// Command runs as root in a copy of the host's file system: every program,
	// library and file of the host is there; what it writes is forgotten. The
	// program is looked up in the usual directories.
	Command []string
	Env     []string          // "NAME=value", beside PATH, HOME and LC_ALL=C
	Files   map[string][]byte // written below / first, mode 0755

	Disks     []Disk
	Modules   []string // beside what Run itself needs and what the disks need: "nbd max_part=16"
	WaitFor   []string // device nodes (globs) that must be there before the command starts
	MemoryMiB int      // default 512
	Accel     string   // default "tcg", which works everywhere
	Args      []string // further arguments for QEMU
}

// Disk is a block device of a machine, in the order of Machine.Disks: sda, sdb,
// ... on "sata" and "usb"; nvme0n1, nvme1n1, ... on "nvme"; vda, ... on "virtio".
type Disk struct {
	Path   string
	Bus    string // default "sata"
	Format string // default "raw"
	Serial string // default "disk0", "disk1", ...
}

// Result is how the command ended.
type Result struct {
	ExitCode int // 128 + number for a signal
	Stdout   []byte
	Stderr   []byte
	Console  string // the kernel's messages
}

// Job is what Run tells the runner in the initramfs.
type Job struct {
	Command []string
	Env     []string
	Files   map[string][]byte
	WaitFor []string
}

// FastOptions are kernel options that make an emulated CPU faster: without the
// self-tests, and without ERMS and FSRM, which let the kernel copy memory in a
// way that TCG emulates byte by byte.
const FastOptions = "mitigations=off cryptomgr.notests clearcpuid=297,580 no_timer_check"

// baseModules give the runner its root file system and its way out, and the
// command the file systems an installed ESXi or its media use.
var baseModules = []string{
	"virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay",
	"sd_mod", "loop", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "isofs",
}

var busModules = map[string][]string{
	"sata":   {"ahci"},
	"nvme":   {"nvme"},
	"virtio": {"virtio_blk"},
	"usb":    {"xhci_pci", "usb_storage"},
}

// Run boots the machine, runs its command and returns what came of it. An error
// means that the command did not run to its end, and quotes the console.
func Run(ctx context.Context, m Machine) (Result, error) {
	dir, err := os.MkdirTemp("", "tinylinux-*")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(dir)
	args, err := prepare(ctx, m, dir)
	if err != nil {
		return Result{}, err
	}
	qemu, err := command.Start(ctx, command.Cmd{Name: "qemu-system-x86_64", Args: args})
	if err != nil {
		return Result{}, err
	}
	runErr := qemu.Wait()

	var r Result
	console, err := os.ReadFile(filepath.Join(dir, "console"))
	if err != nil {
		return r, errors.Join(runErr, err)
	}
	r.Console = string(console)
	if r.Stdout, err = os.ReadFile(filepath.Join(dir, "stdout")); err != nil {
		return r, err
	}
	if r.Stderr, err = os.ReadFile(filepath.Join(dir, "stderr")); err != nil {
		return r, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return r, err
	}
	r.ExitCode, err = strconv.Atoi(strings.TrimSpace(string(status)))
	if runErr != nil || err != nil {
		return r, fmt.Errorf("the machine did not run %q to its end (%w); end of its console:\n%s",
			m.Command, errors.Join(runErr, err), console[max(0, len(console)-2000):])
	}
	return r, nil
}

// prepare writes the initramfs and returns QEMU's arguments.
func prepare(ctx context.Context, m Machine, dir string) ([]string, error) {
	kernel, err := Find(ctx)
	if err != nil {
		return nil, err
	}
	disks, modules, err := diskArgs(m.Disks)
	if err != nil {
		return nil, err
	}
	files, err := kernel.Modules(append(append(modules, baseModules...), m.Modules...)...)
	if err != nil {
		return nil, err
	}
	init, err := Build(ctx, "./test/tinylinux/runner")
	if err != nil {
		return nil, err
	}
	job, err := json.Marshal(Job{Command: m.Command, Env: m.Env, Files: m.Files, WaitFor: m.WaitFor})
	if err != nil {
		return nil, err
	}
	initramfs, err := os.Create(filepath.Join(dir, "initramfs"))
	if err != nil {
		return nil, err
	}
	defer initramfs.Close()
	files = append(files, File{Path: "init", Mode: 0o755, Data: init}, File{Path: "job.json", Mode: 0o600, Data: job})
	if err := WriteInitramfs(initramfs, files); err != nil {
		return nil, err
	}

	memory, accel := m.MemoryMiB, m.Accel
	if memory == 0 {
		memory = 512
	}
	if accel == "" {
		accel = "tcg"
	}
	args := []string{
		"-nodefaults", "-display", "none", "-no-reboot", "-machine", "pc", "-accel", accel, "-cpu", "max", "-m", strconv.Itoa(memory),
		"-kernel", kernel.Vmlinux, "-initrd", initramfs.Name(),
		"-append", "console=ttyS0 quiet panic=-1 " + FastOptions,
		"-serial", "file:" + filepath.Join(dir, "console"),
		"-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-serial-pci",
	}
	for _, port := range []string{"stdout", "stderr", "status"} {
		args = append(args, "-chardev", "file,id="+port+",path="+filepath.Join(dir, port),
			"-device", "virtserialport,chardev="+port+",name="+port)
	}
	return append(append(args, disks...), m.Args...), nil
}

func diskArgs(disks []Disk) (args, modules []string, err error) {
	for i, d := range disks {
		if d.Bus == "" {
			d.Bus = "sata"
		}
		if d.Format == "" {
			d.Format = "raw"
		}
		if d.Serial == "" {
			d.Serial = fmt.Sprintf("disk%d", i)
		}
		need, ok := busModules[d.Bus]
		if !ok {
			return nil, nil, fmt.Errorf("unknown bus %q of disk %s", d.Bus, d.Path)
		}
		modules = append(modules, need...)
		device := map[string]string{
			"sata":   fmt.Sprintf("ide-hd,bus=ahci%d.0", i),
			"nvme":   "nvme",
			"virtio": "virtio-blk-pci",
			"usb":    fmt.Sprintf("usb-storage,bus=xhci%d.0", i),
		}[d.Bus]
		// A controller per disk keeps the order and has no limit worth a rule.
		switch d.Bus {
		case "sata":
			args = append(args, "-device", fmt.Sprintf("ahci,id=ahci%d", i))
		case "usb":
			args = append(args, "-device", fmt.Sprintf("qemu-xhci,id=xhci%d", i))
		}
		drive := fmt.Sprintf("if=none,id=d%d,format=%s,discard=unmap,cache=unsafe,file=%s", i, d.Format, strings.ReplaceAll(d.Path, ",", ",,"))
		args = append(args, "-drive", drive, "-device", fmt.Sprintf("%s,drive=d%d,serial=%s", device, i, d.Serial))
	}
	return args, modules, nil
}
