package esxisim

import (
	"fmt"
	"strconv"
	"strings"
)

// installerBootConfig is the BOOT.CFG of the ISO, twice there: for BIOS in the
// root and for UEFI in EFI/BOOT.
func (r Release) installerBootConfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, "bootstate=0\ntitle=Loading %s installer\ntimeout=5\n", r.product())
	if r.AtLeast(7) {
		b.WriteString("prefix=\n")
	}
	fmt.Fprintf(&b, "kernel=/%s\nkernelopt=%s\n", r.InstallerKernel(), r.KernelOptions())
	fmt.Fprintf(&b, "modules=/%s\n", strings.Join(r.installerModules(), " --- /"))
	updated := 0
	if r.AtLeast(9) {
		updated = 1
	}
	fmt.Fprintf(&b, "build=%s\nupdated=%d\n", r.BootBuild(), updated)
	return b.String()
}

// bankBootConfig is the boot.cfg of a boot bank: the one that was just
// installed (bootstate 0), or the other one, empty (bootstate 3).
func (r Release) bankBootConfig(installed bool, extra ...string) string {
	if !installed {
		return "bootstate=3\nkernel=\nkernelopt=\nmodules=\nbuild=\nupdated=0\n"
	}
	options := "autoPartition=FALSE"
	if !r.AtLeast(7) {
		options = "installerDiskDumpSlotSize=2560 no-auto-partition"
	}
	build := r.BootBuild()
	if build == "" {
		build = r.Version + "-0.0." + r.Build // an empty one would make the bank invalid
	}
	return fmt.Sprintf("bootstate=0\ntitle=Loading VMware %s\ntimeout=5\nprefix=\nkernel=b.b00\nkernelopt=%s\nmodules=%s\nbuild=%s\nupdated=1\n",
		r.product(), options, strings.Join(append(r.bankModules(), extra...), " --- "), build)
}

// BootConfig is a boot.cfg as the boot loader reads it.
type BootConfig struct {
	Title, Prefix, Kernel, KernelOptions string
	Modules                              []string // paths, without the options behind them
	Timeout                              int      // seconds
}

// ParseBootConfig reads a boot.cfg the way vmware/esx-boot does: key=value
// lines, keys in any case, white space folded into one blank, the last of
// repeated keys wins, unknown keys are ignored, a number that is none stops
// the boot.
func ParseBootConfig(text string) (BootConfig, error) {
	c := BootConfig{Timeout: 5}
	for n, line := range strings.Split(text, "\n") {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return c, fmt.Errorf("line %d: no '='", n+1)
		}
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		switch key {
		case "title":
			c.Title = value
		case "prefix":
			c.Prefix = value
		case "kernel":
			c.Kernel = value
		case "kernelopt":
			c.KernelOptions = value
		case "modules":
			c.Modules = nil
			for item := range strings.SplitSeq(value, "---") {
				if words := strings.Fields(item); len(words) > 0 {
					c.Modules = append(c.Modules, words[0])
				}
			}
		case "timeout", "nobootif", "noquirks", "norts", "runtimewd", "runtimewdtimeout", "tftpblksize", "skip",
			"errtimeout", "updated", "bootstate", "quickboot":
			if value == "" {
				continue
			}
			number, err := strconv.Atoi(value)
			if err != nil {
				return c, fmt.Errorf("line %d: %s is no number: %q", n+1, key, value)
			}
			if key == "timeout" {
				c.Timeout = number
			}
		}
	}
	if c.Kernel == "" {
		return c, fmt.Errorf("no kernel=")
	}
	return c, nil
}
