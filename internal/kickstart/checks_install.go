package kickstart

import (
	"regexp"
	"slices"
	"strings"
)

// check applies the rules of one command. Its options' syntax is checked already.
func (l *linter) check(name string, s statement) {
	switch name {
	case "install", "installorupgrade":
		l.checkInstall(s)
	case "upgrade":
		l.checkUpgrade(s)
	case "clearpart":
		l.checkClearpart(s)
	case "part":
		l.checkPart(s)
	case "network":
		l.checkNetwork(s)
	case "rootpw":
		l.checkRootpw(s)
	case "keyboard":
		if p := s.positional(); len(p) == 1 && !slices.Contains(keyboards, p[0]) {
			l.installerWarnf(s.at, "the installer does not know the keyboard %s; write one of: %s", show(p[0]), strings.Join(keyboards, ", "))
		}
	case "serialnum":
		l.checkSerial(s)
	case "dryrun":
		l.errorf(s.at, "with dryrun nothing is installed; delete the line")
	case "paranoid":
		l.notef(s.at, "with paranoid the installer stops at each of its warnings; delete the line unless that is wanted")
	case "%include":
		l.checkInclude(s)
	}
}

func (l *linter) checkInstall(s statement) {
	firstDisk, byFirst := s.option("--firstdisk")
	disk, byName := s.option("--disk", "--drive")
	switch {
	case byFirst && byName:
		l.errorf(s.at, "--firstdisk and --%s exclude each other; write only --firstdisk=local", disk.name[2:])
	case byFirst:
		l.checkFirstDisk(s, firstDisk)
	case byName:
		l.checkDiskName(s, disk)
	default:
		l.errorf(s.at, "%s does not say which disk; write %s --firstdisk=local", s.name, s.name)
	}

	overwrite, preserve := s.has("--overwritevmfs"), s.has("--preservevmfs")
	switch {
	case overwrite && preserve:
		l.errorf(s.at, "--overwritevmfs and --preservevmfs exclude each other; write only --overwritevmfs")
	case !overwrite && !preserve:
		l.notef(s.at, "the installer would stop at a disk with a VMFS volume; write --overwritevmfs")
	}
	if s.has("--overwritevsan") {
		l.errorf(s.at, "--overwritevsan makes the installer stop at a disk without vSAN, and the build VM's disk is empty; delete it")
	}
	if s.has("--ignoressd") {
		switch {
		case s.name == "installorupgrade":
			l.errorf(s.at, "--ignoressd is not allowed with installorupgrade; delete it")
		case !byFirst:
			l.errorf(s.at, "--ignoressd is only allowed with --firstdisk; delete it, or write --firstdisk=local")
		}
	}
	if !s.has("--novmfsondisk") && !preserve {
		l.warnf(s.at, "without --novmfsondisk the image may contain a datastore, which then has the same UUID on every host; add --novmfsondisk")
	}
	if o, ok := s.option("--dpuPciSlots"); ok {
		l.warnf(s.at, "the build VM has no DPU; delete %s", o.name)
	}
	for _, word := range s.positional() {
		if slices.Contains([]string{"cdrom", "usb", "nfs", "url"}, word) {
			l.installerWarnf(s.at, "%s %s is not used any more, the installer knows its medium; delete the word", s.name, word)
		} else if s.name == "install" {
			l.installerWarnf(s.at, "more words behind install than it takes; the installer ignores them, delete them")
		}
	}
}

// checkFirstDisk looks at the list of --firstdisk: local, remote, usb, esx,
// localesx, remoteesx, a model, a vendor or a driver. What it is compared with
// is one empty SATA disk, and perhaps the USB stick with this kickstart.
func (l *linter) checkFirstDisk(s statement, a argument) {
	if !a.hasValue {
		l.warnf(s.at, "%s without a list also takes USB disks, such as the stick that brings this kickstart; write %s=local", a.name, a.name)
		return
	}
	if a.value == "" {
		return // reported as a missing value
	}
	var local, usb, other bool
	for entry := range strings.SplitSeq(a.value, ",") {
		switch entry {
		case "local", "vmw_ahci":
			local = true
		case "usb":
			usb = true
		case "remote", "esx", "localesx", "remoteesx":
		default:
			other = true
		}
	}
	switch {
	case !local && !other:
		l.errorf(s.at, "%s=%s does not match the disk of the build VM, which is empty, local and on SATA; write %s=local", a.name, show(a.value), a.name)
	case usb:
		l.warnf(s.at, "%s with usb in its list may take the stick that brings this kickstart; write %s=local", a.name, a.name)
	case !local:
		l.warnf(s.at, "%s names a disk model or a driver that the build VM hardly has; write %s=local", a.name, a.name)
	}
}

// checkDiskName looks at disks that are given by name.
func (l *linter) checkDiskName(s statement, a argument) {
	for name := range strings.SplitSeq(a.value, ",") {
		name = strings.TrimPrefix(name, "/vmfs/devices/disks/")
		kind, _, _ := strings.Cut(name, ".")
		switch {
		case name == "": // reported as a missing value
		case kind == "naa", kind == "eui", kind == "vml", kind == "t10" && !strings.Contains(name, "QEMU"):
			l.errorf(s.at, "%s names a disk of another machine, the build VM does not have it; write --firstdisk=local", a.name)
			return
		default:
			l.warnf(s.at, "%s depends on the build VM's disk having exactly this name; write --firstdisk=local", a.name)
			return
		}
	}
}

func (l *linter) checkUpgrade(s statement) {
	l.errorf(s.at, "the build VM's disk is empty, there is nothing to upgrade; write: install --firstdisk=local --overwritevmfs --novmfsondisk")
	for _, o := range l.commands {
		if slices.Contains([]string{"rootpw", "network", "keyboard", "serialnum", "clearpart", "part"}, canonical(o.name)) {
			l.errorf(o.at, "%s is not allowed together with upgrade; write install instead of upgrade", o.name)
		}
	}
}

func (l *linter) checkClearpart(s statement) {
	if !l.has("install", "upgrade") {
		l.errorf(s.at, "clearpart works only with install; add an install command, or delete this line")
	}
	selectors := 0
	for _, name := range []string{"--drives", "--alldrives", "--ignoredrives", "--firstdisk"} {
		if s.has(name) {
			selectors++
		}
	}
	if selectors != 1 {
		l.errorf(s.at, "clearpart needs exactly one of --firstdisk, --drives, --ignoredrives and --alldrives; write clearpart --firstdisk=local --overwritevmfs")
	}
	if !s.has("--overwritevmfs") {
		l.notef(s.at, "clearpart stops at a disk with a VMFS volume; write --overwritevmfs")
	}
	if s.has("--alldrives") || s.has("--ignoredrives") {
		l.warnf(s.at, "this may also clear the stick that brings this kickstart; write clearpart --firstdisk=local --overwritevmfs")
	}
	if a, ok := s.option("--firstdisk"); ok {
		l.checkFirstDisk(s, a)
	}
	if a, ok := s.option("--drives"); ok {
		l.checkDiskName(s, a)
	}
}

func (l *linter) checkPart(s statement) {
	if !l.has("install", "upgrade") {
		l.errorf(s.at, "%s works only with install; add an install command, or delete this line", s.name)
	}
	if s.has("--ondisk", "--ondrive") == s.has("--onfirstdisk") {
		l.errorf(s.at, "%s needs exactly one of --ondisk and --onfirstdisk", s.name)
	}
	l.errorf(s.at, "%s cannot use the disk of install, and the build VM has no other; delete the line: datastores are created when a host is deployed", s.name)
	for _, o := range l.commands {
		if o.at == s.at {
			break
		}
		if canonical(o.name) == "part" && slices.Equal(o.positional(), s.positional()) {
			l.errorf(s.at, "a datastore of this name is created at %s already; choose another name", l.place(o.at))
		}
	}
}

var serial = regexp.MustCompile(`^[0-9A-Za-z]{5}(-[0-9A-Za-z]{5}){4}$`)

func (l *linter) checkSerial(s statement) {
	a, ok := s.option("--esx")
	switch {
	case !ok:
		l.errorf(s.at, "%s needs the licence key: --esx=XXXXX-XXXXX-XXXXX-XXXXX-XXXXX", s.name)
	case a.value != "" && !serial.MatchString(a.value):
		l.errorf(s.at, "the licence key is not five groups of five letters and digits; write --esx=XXXXX-XXXXX-XXXXX-XXXXX-XXXXX")
	}
	if !l.version.before(9, 0) {
		l.installerWarnf(s.at, "from 9.0 on hosts get their licence from vCenter, and %s is not used; delete the line", s.name)
	}
}

func (l *linter) checkInclude(s statement) {
	for _, path := range s.positional() {
		if strings.HasPrefix(path, "/etc/vmware/weasel/") {
			l.errorf(s.at, "this is the installer's own example, with a root password that everybody knows; delete the line")
			continue
		}
		if strings.Contains(path, "://") {
			l.errorf(s.at, "%s with a URL needs a network, and the build VM has none; put the text into a file in the .d directory beside the kickstart", s.name)
			continue
		}
		if !l.madeByPre(path) {
			l.warnf(s.at, "%s reads a file of the installer's RAM disk, and no %%pre section here writes it; put the text into a file in the .d directory beside the kickstart", s.name)
		}
	}
}

// madeByPre tells whether a %pre section mentions path.
func (l *linter) madeByPre(path string) bool {
	for _, s := range l.sections {
		if s.name != "%pre" {
			continue
		}
		for _, line := range s.body {
			if strings.Contains(line.text, path) {
				return true
			}
		}
	}
	return false
}
