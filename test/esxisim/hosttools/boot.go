package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/esxisim/host"
	"golang.org/x/sys/unix"
)

// boot plays the boot of the installed disk in a virtual machine: boot loader,
// the unpacking of the boot bank's archives, and the one-time scripts. It ends
// with the result as JSON on out; what the scripts print goes to console.
//
//	boot JOB.json
func boot(args []string, out, console io.Writer) error {
	if len(args) != 2 {
		return errors.New("wrong use of boot")
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var job host.BootJob
	if err := json.Unmarshal(text, &job); err != nil {
		return err
	}
	for i := range job.Hardware.Disks {
		d := &job.Hardware.Disks[i]
		if d.Image, err = nodeOf(d.Image); err != nil {
			return err
		}
	}
	b := booting{job: job, console: console}
	result, err := b.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// nodeOf returns the device node of the disk with a serial number, which is in
// its page 0x80 of vital product data (SPC-4 7.8.15).
func nodeOf(serial string) (string, error) {
	pages, err := filepath.Glob("/sys/block/sd*/device/vpd_pg80")
	if err != nil {
		return "", err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err == nil && len(text) > 4 && strings.TrimSpace(string(text[4:])) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(page))), nil
		}
	}
	return "", fmt.Errorf("no disk has the serial number %s", serial)
}

// booting is a boot on its way.
type booting struct {
	job     host.BootJob
	console io.Writer
	host    *host.Host
	config  esxisim.BootConfig
}

func (b *booting) run() (r host.BootResult, err error) {
	banks, err := b.chooseBank()
	if err != nil {
		return r, err
	}
	if b.host, err = host.New(host.Options{Dir: "/run/esxi", Tools: b.job.Tools, Hardware: b.job.Hardware}); err != nil {
		return r, err
	}
	for dir, node := range banks {
		if err := mountBank(node, b.host.Path(dir)); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, unix.Unmount(b.host.Path(dir), 0)) }()
	}
	for _, name := range []string{"state.tgz", "onetime.tgz"} {
		if slices.Contains(b.config.Modules, name) {
			if err := b.host.Restore(b.host.Path("/bootbank/" + name)); err != nil {
				return r, err
			}
		}
	}
	if err := configure("ifconfig", "eth0", "10.0.2.15", "netmask", "255.255.255.0", "up"); err != nil {
		return r, err // this machine's own way out, which programs on the host do not have
	}
	if err := b.host.Boot(); err != nil {
		return r, err
	}
	if r.Scripts, err = b.oneTime(); err != nil {
		return r, err
	}
	return b.finish(r)
}

// finish collects what became of the host.
func (b *booting) finish(r host.BootResult) (host.BootResult, error) {
	state, err := b.host.State()
	if err != nil {
		return r, err
	}
	r.State = *state
	calls, err := b.host.Calls()
	if err != nil {
		return r, err
	}
	for _, c := range calls {
		r.Calls = append(r.Calls, c.String())
	}
	if problem := b.host.Check(); problem != nil {
		r.Problems = strings.Split(problem.Error(), "\n")
	}
	r.Files = map[string]string{}
	for _, dir := range []string{"/bootbank", "/altbootbank"} {
		paths, err := filepath.Glob(b.host.Path(dir + "/esxid/*"))
		if err != nil {
			return r, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return r, err
			}
			r.Files[strings.TrimPrefix(path, b.host.Root())] = string(text)
		}
	}
	return r, nil
}

// build is how boot.cfg names the version and the build.
var build = regexp.MustCompile(`(?m)^build=(\d+\.\d+\.\d+)[0-9.]*-(?:[0-9.]*\.)?(\d+)\s*$`)

// chooseBank finds the bank to boot from, as the boot loader does: a valid one,
// the one that was updated last. It returns the nodes by directory.
func (b *booting) chooseBank() (map[string]string, error) {
	hw := &b.job.Hardware
	i := slices.IndexFunc(hw.Disks, func(d host.Disk) bool { return d.Boot })
	if i < 0 {
		return nil, errors.New("the hardware has no boot disk")
	}
	nodes := []string{hw.Disks[i].Image + "5", hw.Disks[i].Image + "6"}
	best, newest := -1, 0
	for n, node := range nodes {
		text, updated, err := readBank(node)
		if err != nil {
			return nil, fmt.Errorf("boot bank %s: %w", node, err)
		}
		if m := build.FindStringSubmatch(text); m != nil && updated > newest {
			best, newest = n, updated
			hw.ESXi, hw.Build = m[1], m[2]
			if b.config, err = esxisim.ParseBootConfig(text); err != nil {
				return nil, fmt.Errorf("boot bank %s: %w", node, err)
			}
		}
	}
	if best < 0 {
		return nil, errors.New("no valid boot bank: not a VMware boot bank, no hypervisor found")
	}
	return map[string]string{"/bootbank": nodes[best], "/altbootbank": nodes[1-best]}, nil
}

// readBank returns a bank's boot.cfg and its number of updates, 0 for a bank
// that the boot loader skips.
func readBank(node string) (config string, updated int, err error) {
	mark := make([]byte, 12)
	f, err := os.Open(node)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	if _, err := f.ReadAt(mark, 512); err != nil {
		return "", 0, err
	}
	if string(mark) != "VMWARE FAT16" {
		return "", 0, nil
	}
	const dir = "/run/bank"
	if err := mountBank(node, dir); err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, 0)) }()
	text, err := os.ReadFile(dir + "/boot.cfg")
	if os.IsNotExist(err) {
		return "", 0, nil
	}
	for line := range strings.Lines(string(text)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "updated":
			_, err = fmt.Sscan(value, &updated)
		case "bootstate":
			if value == "3" {
				return string(text), 0, nil
			}
		}
	}
	return string(text), updated, err
}

func mountBank(node, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(node, dir, "vfat", 0, "shortname=mixed"); err != nil {
		return fmt.Errorf("cannot mount %s: %w", node, err)
	}
	return nil
}

// oneTime runs the scripts of %firstboot and sees to it that they do not run
// again.
func (b *booting) oneTime() ([]host.BootScript, error) {
	paths, err := filepath.Glob(b.host.Path("/var/lib/vmware/firstboot/*"))
	if err != nil {
		return nil, err
	}
	scripts := []host.BootScript{}
	for _, path := range paths {
		name := strings.TrimPrefix(path, b.host.Root())
		script := host.BootScript{Name: filepath.Base(name)}
		err := b.host.Script(context.Background(), name, b.console, b.job.Forwards...)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			script.Exit = exit.ExitCode()
		} else if err != nil {
			return nil, err
		}
		scripts = append(scripts, script)
	}
	return scripts, b.forgetOneTime()
}

// forgetOneTime takes onetime.tgz out of the boot bank.
func (b *booting) forgetOneTime() error {
	path := b.host.Path("/bootbank/boot.cfg")
	text, err := os.ReadFile(path)
	if err != nil || !slices.Contains(b.config.Modules, "onetime.tgz") {
		return err
	}
	text = []byte(strings.Replace(string(text), " --- onetime.tgz", "", 1))
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return os.Remove(b.host.Path("/bootbank/onetime.tgz"))
}
