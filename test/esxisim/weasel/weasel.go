package weasel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim"
	"golang.org/x/sys/unix"
)

// Installer is one run of the installer.
type Installer struct {
	Release  esxisim.Release
	Options  BootOptions
	Modules  []esxisim.Module // what the boot loader loaded
	EFI      []esxisim.Module // the CD's EFI/BOOT
	BootCode []byte           // the CD's UPGRADE/GPTMBR.BIN
	Sys      string           // where sysfs is mounted
	Screen   io.Writer
	Log      *Log
}

// handledError is a failure in the real installer's own words.
type handledError string

func (e handledError) Error() string { return string(e) }

// Run installs as the kickstart says. When it returns, the machine waits for
// somebody to press a key, or restarts if the kickstart said so.
func (in *Installer) Run() (reboot bool, err error) {
	macs, err := nics(in.Sys)
	if err != nil {
		return false, err
	}
	if len(macs) == 0 {
		return false, handledError("No network adapters were detected")
	}
	where, ok := in.Options["ks"]
	if !ok {
		in.say("Welcome to the installation of %s\n\n(Esc) Cancel   (Enter) Continue", in.Release.Profile)
		return false, nil
	}
	text, err := in.findKickstart(where)
	if err != nil {
		return false, err
	}
	plan, scripts, err := in.plan(string(text))
	if err != nil {
		return false, err
	}
	mac, err := choose(plan.NetDevice, macs)
	if err != nil {
		return false, err
	}
	if err := in.requirements(plan.Target); err != nil {
		return false, err
	}
	disk, parts, err := in.target(plan)
	if err != nil {
		return false, err
	}
	if plan.DryRun {
		in.say("dry run: %s on %s would be overwritten", disk.Model, disk.Node)
		return false, nil
	}
	if err := in.install(plan, scripts, disk, parts, mac); err != nil {
		return false, fmt.Errorf("cannot install on %s: %w", disk.Node, err)
	}
	if err := mountBanks(disk); err != nil {
		return false, err
	}
	if err := errors.Join(in.post(scripts), unmountBanks()); err != nil {
		return false, err
	}
	in.say("%s was installed. Remove the installation media, then press Enter to restart.", in.Release.Profile)
	return plan.Reboot, nil
}

// post runs the %post sections.
func (in *Installer) post(scripts []Script) error {
	for _, s := range scripts {
		if s.Kind != "post" {
			continue
		}
		if err := in.runScript(s); err != nil && !s.IgnoreFailure {
			return fmt.Errorf("%%post of line %d: %w", s.Line, err)
		}
	}
	return nil
}

// say shows something on the screen and logs it.
func (in *Installer) say(format string, args ...any) {
	fmt.Fprintf(in.Screen, format+"\n", args...)
	in.Log.Printf("installer: "+format, args...)
}

// plan parses and checks the kickstart. Problems that stop the installation
// are one error, in several lines.
func (in *Installer) plan(text string) (Plan, []Script, error) {
	in.say("Reading the kickstart")
	k, err := in.load(text, 0)
	if err != nil {
		return Plan{}, nil, err
	}
	plan := k.Check()
	var fatal []string
	for _, p := range k.Problems {
		in.Log.Printf("kickstart: %v", p)
		if p.Fatal {
			fatal = append(fatal, p.String())
		}
	}
	if len(fatal) > 0 {
		return plan, nil, fmt.Errorf("the kickstart cannot be used:\n%s", strings.Join(fatal, "\n"))
	}
	return plan, k.Scripts, nil
}

// choose finds the NIC of a network line: "vmnic0", a MAC address, or nothing
// for the first.
func choose(device string, macs []string) (string, error) {
	if device == "" {
		return macs[0], nil
	}
	for i, mac := range macs {
		if strings.EqualFold(device, mac) || device == "vmnic"+strconv.Itoa(i) {
			return mac, nil
		}
	}
	return "", fmt.Errorf("error: network: there is no device %s", device)
}

// requirements are what the real installer wants of a machine.
func (in *Installer) requirements(t Target) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	// A machine of 4 GiB has a little less for Linux to give out.
	if total := int64(info.Totalram) * int64(info.Unit); total < 3700<<20 && !t.IgnorePrereqErrors {
		return fmt.Errorf("error: MEMORY_SIZE: this host has %d MiB of memory, 4096 MiB are needed", total>>20)
	}
	cpus, err := os.ReadFile("/sys/devices/system/cpu/present")
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(cpus)) == "0" && !t.IgnorePrereqErrors {
		return errors.New("error: CPU_CORES: this host has one CPU core, two are needed")
	}
	return nil
}

// target chooses the disk and divides it.
func (in *Installer) target(plan Plan) (Disk, []esxisim.Partition, error) {
	t := plan.Target
	if plan.Mode == "upgrade" {
		return Disk{}, nil, errors.New("error: upgrade: no ESXi was found on any disk")
	}
	if len(plan.Partitions) > 0 {
		return Disk{}, nil, fmt.Errorf("error: part: the disk %s cannot be used", plan.Partitions[0])
	}
	found, err := disks(in.Sys, in.Release)
	if err != nil {
		return Disk{}, nil, err
	}
	for _, d := range found {
		in.Log.Printf("storage: %s: %d bytes, %s, %s", strings.Join(d.Names, " "), d.Size, d.Driver, d.Model)
	}
	disk, err := t.choose(found)
	if err != nil {
		return disk, nil, err
	}
	file, err := os.Open("/dev/" + disk.Node)
	if err != nil {
		return disk, nil, err
	}
	defer file.Close()
	vmfs, err := esxisim.HasVMFS(file)
	switch {
	case err != nil:
		return disk, nil, err
	case t.OverwriteVSAN:
		return disk, nil, errors.New("error: install --overwritevsan: there is no vSAN on the disk")
	case vmfs && t.PreserveVMFS:
		return disk, nil, errors.New("error: install --preservevmfs: the datastore is in the way of the system's partitions")
	case vmfs && !t.OverwriteVMFS:
		return disk, nil, errors.New("error: install: there is a VMFS datastore on the disk, and neither --overwritevmfs nor --preservevmfs")
	}
	parts, err := in.Release.Layout(disk.Size, esxisim.LayoutOptions{
		MediaSize: in.Options["systemMediaSize"], NoVMFS: t.NoVMFS, USB: disk.usb(),
	})
	return disk, parts, err
}

// choose picks the disk to install on.
func (t Target) choose(found []Disk) (Disk, error) {
	if !t.FirstDisk {
		for _, d := range found {
			if slices.Contains(d.Names, strings.TrimPrefix(t.Disk, "/vmfs/devices/disks/")) {
				return d, nil
			}
		}
		return Disk{}, fmt.Errorf("error: install --disk: there is no disk %s", t.Disk)
	}
	for _, word := range t.Filter {
		for _, d := range found {
			if d.matches(word) {
				return d, nil
			}
		}
	}
	return Disk{}, fmt.Errorf("error: install --firstdisk: no suitable disk was found (%s)", strings.Join(t.Filter, ","))
}
