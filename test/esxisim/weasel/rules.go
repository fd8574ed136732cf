package weasel

import (
	"slices"
	"strings"
)

// Plan is what a kickstart asks for.
type Plan struct {
	Mode       string // "install", "upgrade" or "installorupgrade"
	Target     Target
	Password   string // of root
	Crypted    bool
	NetDevice  string // of the network line; "" is the first one
	Network    bool   // there is a network line
	Reboot     bool
	DryRun     bool
	Partitions []string // disks of part lines
}

// Target says which disk to install on, and what may be lost.
type Target struct {
	Disk                        string // --disk=
	FirstDisk                   bool
	Filter                      []string // of --firstdisk=
	OverwriteVMFS, PreserveVMFS bool
	NoVMFS                      bool
	OverwriteVSAN               bool
	IgnorePrereqErrors          bool
}

// rule is how one command is checked. takes lists its options: with a trailing
// "=" they need a value, with "?" they may have one.
type rule struct {
	takes string
	check func(*checker, Command, options)
}

// options are the arguments of one command.
type options struct {
	named map[string]string
	plain []string
}

func (o options) has(name string) bool { _, ok := o.named[name]; return ok }

const installTakes = "--disk= --drive= --firstdisk? --ignoressd --overwritevmfs --preservevmfs --novmfsondisk --overwritevsan --ignoreprereqwarnings " +
	"--ignoreprereqerrors --forceunsupportedinstall --systemDisk= --repartitionSystemDisk --dpuPciSlots="

var rules = map[string]rule{
	"accepteula":       {"", nil},
	"vmaccepteula":     {"", nil},
	"rootpw":           {"--iscrypted", (*checker).rootpw},
	"install":          {installTakes, (*checker).install},
	"installorupgrade": {installTakes + " --forcemigrate", (*checker).install},
	"upgrade":          {"--disk= --firstdisk? --diskBootedFrom --savebootbank= --deletecosvmdk --forcemigrate --ignoreprereqwarnings --ignoreprereqerrors", (*checker).upgrade},
	"clearpart":        {"--drives= --alldrives --ignoredrives= --firstdisk? --overwritevmfs", (*checker).clearpart},
	"part":             {"--ondisk= --onfirstdisk?", (*checker).part},
	"partition":        {"--ondisk= --onfirstdisk?", (*checker).part},
	"network":          {"--bootproto= --device= --ip= --netmask= --gateway= --nameserver= --hostname= --vlanid= --nodns --addvmportgroup=", (*checker).network},
	"keyboard":         {"", (*checker).keyboard},
	"serialnum":        {"--esx=", (*checker).serialnum},
	"vmserialnum":      {"--esx=", (*checker).serialnum},
	"reboot":           {"--noeject", func(c *checker, _ Command, _ options) { c.plan.Reboot = true }},
	"dryrun":           {"", func(c *checker, _ Command, _ options) { c.plan.DryRun = true }},
	"paranoid":         {"", nil},
	"partitionembed":   {"", nil},
	"%include":         {"", nil},
	"include":          {"", nil},
	"lang":             {"", nil},
	"langsupport":      {"", nil},
}

var deprecated = strings.Fields(`auth authconfig autopart autostep bootloader cmdline device deviceprobe esxlocation firewall firewallport
	firstboot harddrive ignoredisk interactive lilo lilocheck logvol mouse raid skipx text timezone virtualdisk vnc volgroup xconfig xdisplay
	vmlicense zerombr`)

// checker judges the commands of a kickstart.
type checker struct {
	*Kickstart
	plan  Plan
	first map[string]int // line of a command's first use
}

// Check judges the commands and returns what they ask for. It adds to
// k.Problems; with a fatal one among them the plan is worthless.
func (k *Kickstart) Check() Plan {
	c := checker{Kickstart: k, first: map[string]int{}}
	for _, command := range k.Commands {
		c.command(command)
	}
	c.whole()
	if c.first["paranoid"] > 0 {
		for i := range k.Problems {
			k.Problems[i].Fatal = true
		}
	}
	return c.plan
}

// Fatal reports whether an error is among the problems.
func (k *Kickstart) Fatal() bool {
	return slices.ContainsFunc(k.Problems, func(p Problem) bool { return p.Fatal })
}

func (c *checker) command(command Command) {
	r, known := rules[command.Name]
	switch {
	case slices.Contains(deprecated, command.Name):
		c.warn(command.Line, "%s is deprecated and ignored", command.Name)
		return
	case !known:
		c.warn(command.Line, "unknown command %q", command.Name)
		return
	}
	name := map[string]string{"accepteula": "vmaccepteula", "partition": "part", "vmserialnum": "serialnum", "include": "%include"}[command.Name]
	if name == "" {
		name = command.Name
	}
	if c.first[name] > 0 && name != "%include" && name != "part" {
		if slices.Contains(modes, name) {
			c.fail(command.Line, "%s is repeated", name)
		} else {
			c.warn(command.Line, "%s is repeated, the last one counts", name)
		}
	}
	c.first[name] = command.Line
	if r.check == nil {
		return
	}
	r.check(c, command, c.parseOptions(command, strings.Fields(r.takes)))
}

func (c *checker) parseOptions(command Command, takes []string) options {
	o := options{named: map[string]string{}}
	for _, arg := range command.Args {
		if !strings.HasPrefix(arg, "--") {
			o.plain = append(o.plain, arg)
			continue
		}
		name, value, valued := strings.Cut(arg, "=")
		switch {
		case slices.Contains(takes, name+"="):
			if value == "" {
				c.fail(command.Line, "%s %s needs a value", command.Name, name)
				continue
			}
		case slices.Contains(takes, name+"?"):
		case slices.Contains(takes, name):
			if valued {
				c.fail(command.Line, "%s %s takes no value", command.Name, name)
				continue
			}
		default:
			c.warn(command.Line, "%s: unknown argument %q", command.Name, arg)
			continue
		}
		o.named[name] = value
	}
	return o
}

var modes = []string{"install", "upgrade", "installorupgrade"}

// whole checks what concerns more than one command.
func (c *checker) whole() {
	var used []string
	for _, mode := range modes {
		if c.first[mode] > 0 {
			used = append(used, mode)
		}
	}
	if len(used) != 1 {
		c.fail(0, "one of install, upgrade and installorupgrade is needed, there are %d", len(used))
		return
	}
	c.plan.Mode = used[0]
	if c.plan.Mode == "upgrade" {
		for _, name := range []string{"install", "rootpw", "network", "keyboard", "serialnum", "clearpart", "part"} {
			if line := c.first[name]; line > 0 {
				c.fail(line, "%s cannot be used with upgrade", name)
			}
		}
		return
	}
	if c.first["vmaccepteula"] == 0 {
		c.fail(0, "vmaccepteula is missing: the license was not accepted")
	}
	if c.first["rootpw"] == 0 {
		c.fail(0, "rootpw is missing")
	}
	if c.first["network"] == 0 {
		c.warn(0, "there is no network command, DHCP is assumed")
	}
	for _, name := range []string{"clearpart", "part"} {
		if line := c.first[name]; line > 0 && c.plan.Mode != "install" {
			c.fail(line, "%s needs install", name)
		}
	}
}

func (c *checker) install(command Command, o options) {
	t := Target{
		Disk: o.named["--disk"], FirstDisk: o.has("--firstdisk"), Filter: []string{"local", "remote", "usb"},
		OverwriteVMFS: o.has("--overwritevmfs"), PreserveVMFS: o.has("--preservevmfs"), NoVMFS: o.has("--novmfsondisk"),
		OverwriteVSAN: o.has("--overwritevsan"), IgnorePrereqErrors: o.has("--ignoreprereqerrors"),
	}
	if o.has("--drive") {
		t.Disk = o.named["--drive"]
	}
	if list := o.named["--firstdisk"]; list != "" {
		t.Filter = strings.Split(list, ",")
	}
	if (t.Disk != "") == t.FirstDisk {
		c.fail(command.Line, "%s needs --disk= or --firstdisk, one of them", command.Name)
	}
	if t.OverwriteVMFS && t.PreserveVMFS {
		c.fail(command.Line, "--overwritevmfs and --preservevmfs exclude each other")
	}
	if o.has("--ignoressd") && (!t.FirstDisk || command.Name != "install") {
		c.fail(command.Line, "--ignoressd is for install --firstdisk only")
	}
	for _, word := range o.plain {
		c.warn(command.Line, "%s %s is deprecated", command.Name, word)
	}
	c.plan.Target = t
}

func (c *checker) upgrade(command Command, o options) {
	selectors := 0
	for _, name := range []string{"--disk", "--firstdisk", "--diskBootedFrom"} {
		if o.has(name) {
			selectors++
		}
	}
	if selectors != 1 {
		c.fail(command.Line, "upgrade needs one of --disk=, --firstdisk and --diskBootedFrom")
	}
}

func (c *checker) clearpart(command Command, o options) {
	selectors := 0
	for _, name := range []string{"--drives", "--alldrives", "--ignoredrives", "--firstdisk"} {
		if o.has(name) {
			selectors++
		}
	}
	if selectors != 1 {
		c.fail(command.Line, "clearpart needs one of --drives=, --alldrives, --ignoredrives= and --firstdisk")
	}
}

func (c *checker) part(command Command, o options) {
	if len(o.plain) != 1 {
		c.fail(command.Line, "%s needs the name of a datastore", command.Name)
	}
	if o.has("--ondisk") == o.has("--onfirstdisk") {
		c.fail(command.Line, "%s needs --ondisk= or --onfirstdisk, one of them", command.Name)
	}
	c.plan.Partitions = append(c.plan.Partitions, o.named["--ondisk"])
}
