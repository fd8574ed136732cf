package kickstart

import (
	"slices"
	"strings"
)

// What a command takes, as data. Sources: "Installation and Upgrade Script
// Commands" in the installation guides of ESXi 6.5, 6.7, 7.0, 8.0 and 9.0, and
// the installers' own messages for the deprecated commands.

// takes says whether an option has a value.
type takes int

const (
	nothing  takes = iota // --name
	value                 // --name=VALUE
	optional              // --name or --name=VALUE
)

type option struct {
	name  string
	takes takes
	since [2]int // the first version that knows it; zero: all
	gone  bool   // deprecated: accepted and ignored
}

type command struct {
	name    string
	options []option
	args    int // positional arguments: exactly so many
}

var (
	v7 = [2]int{7, 0}
	v8 = [2]int{8, 0}
)

var (
	diskOptions = []option{
		{name: "--disk", takes: value},
		{name: "--drive", takes: value},
		{name: "--firstdisk", takes: optional},
	}
	prereqOptions = []option{
		{name: "--ignoreprereqwarnings"},
		{name: "--ignoreprereqerrors"},
	}
	installOptions = slices.Concat(diskOptions, prereqOptions, []option{
		{name: "--ignoressd"},
		{name: "--overwritevmfs"},
		{name: "--preservevmfs"},
		{name: "--novmfsondisk"},
		{name: "--overwritevsan"},
		{name: "--forceunsupportedinstall", since: v7},
		{name: "--systemDisk", takes: value, since: v7},
		{name: "--repartitionSystemDisk", since: v7},
		{name: "--dpuPciSlots", takes: value, since: v8},
		{name: "--server", takes: value, gone: true},
		{name: "--dir", takes: value, gone: true},
	})
)

// commandTable is the vocabulary of the command part, each command under one of its
// names; synonyms has the others.
var commandTable = []command{
	{name: "vmaccepteula"},
	{name: "rootpw", options: []option{{name: "--iscrypted"}}, args: 1},
	{name: "install", options: installOptions},
	{name: "installorupgrade", options: append(slices.Clone(installOptions), option{name: "--forcemigrate"})},
	{name: "upgrade", options: slices.Concat(diskOptions, prereqOptions, []option{
		{name: "--diskBootedFrom"},
		{name: "--savebootbank", takes: value},
		{name: "--deletecosvmdk"},
		{name: "--forcemigrate"},
	})},
	{name: "clearpart", options: []option{
		{name: "--drives", takes: value},
		{name: "--alldrives"},
		{name: "--ignoredrives", takes: value},
		{name: "--firstdisk", takes: optional},
		{name: "--overwritevmfs"},
	}},
	{name: "part", args: 1, options: []option{
		{name: "--ondisk", takes: value},
		{name: "--ondrive", takes: value},
		{name: "--onfirstdisk", takes: optional},
	}},
	{name: "network", options: []option{
		{name: "--bootproto", takes: value},
		{name: "--device", takes: value},
		{name: "--ip", takes: value},
		{name: "--netmask", takes: value},
		{name: "--gateway", takes: value},
		{name: "--nameserver", takes: value},
		{name: "--hostname", takes: value},
		{name: "--vlanid", takes: value},
		{name: "--nodns"},
		{name: "--addvmportgroup", takes: value},
	}},
	{name: "keyboard", args: 1},
	{name: "serialnum", options: []option{{name: "--esx", takes: value}}},
	{name: "reboot", options: []option{{name: "--noeject"}}},
	{name: "dryrun"},
	{name: "paranoid"},
	{name: "partitionembed"},
	{name: "%include", args: 1},
}

// sectionTable is the same for the section headers.
var sectionTable = []command{
	{name: "%pre", options: []option{{name: "--interpreter", takes: value}}},
	{name: "%post", options: []option{
		{name: "--interpreter", takes: value},
		{name: "--timeout", takes: value},
		{name: "--ignorefailure", takes: value},
	}},
	{name: "%firstboot", options: []option{{name: "--interpreter", takes: value}}},
	{name: "%packages"}, // deprecated, its body is ignored
}

var sectionKeywords = []string{"%pre", "%post", "%firstboot", "%packages"}

func isSection(word string) bool { return slices.Contains(sectionKeywords, word) }

// synonyms maps a command's other names to the one in commands.
var synonyms = map[string]string{
	"accepteula":  "vmaccepteula",
	"partition":   "part",
	"vmserialnum": "serialnum",
	"include":     "%include",
}

// ignored are commands of ESX 4 and of Linux that the installer accepts, warns
// about and does not obey. Names that begin with "lilo" belong here too.
var ignored = []string{
	"auth", "authconfig", "autopart", "autostep", "bootloader", "cmdline", "device", "deviceprobe", "esxlocation",
	"firewall", "firewallport", "firstboot", "harddrive", "ignoredisk", "interactive", "lang", "langsupport", "logvol",
	"mouse", "raid", "skipx", "text", "timezone", "virtualdisk", "vmlicense", "vnc", "volgroup", "xconfig", "xdisplay", "zerombr",
}

func isIgnored(name string) bool {
	return slices.Contains(ignored, name) || strings.HasPrefix(name, "lilo") && plainName.MatchString(name)
}

// keyboards are the names the keyboard command knows.
var keyboards = []string{
	"Belgian", "Brazilian", "Croatian", "Czechoslovakian", "Danish", "Estonian", "Finnish", "French", "German", "Greek",
	"Icelandic", "Italian", "Japanese", "Latin American", "Norwegian", "Polish", "Portuguese", "Russian", "Slovenian",
	"Spanish", "Swedish", "Swiss French", "Swiss German", "Turkish", "Ukrainian", "United Kingdom", "US Default", "US Dvorak",
}

// canonical returns the name under which a command's grammar stands.
func canonical(name string) string {
	if other, ok := synonyms[name]; ok {
		return other
	}
	return name
}

// lookup finds a command or section by its canonical name.
func lookup(table []command, name string) (command, bool) {
	i := slices.IndexFunc(table, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return table[i], true
}

// find returns the option called name. Names with capitals are documented in
// several spellings, so they are found in any; the others must be exact.
func (c command) find(name string) (option, bool) {
	for _, o := range c.options {
		if o.name == name || o.name != strings.ToLower(o.name) && strings.EqualFold(o.name, name) {
			return o, true
		}
	}
	return option{}, false
}

func (c command) optionNames() []string {
	var names []string
	for _, o := range c.options {
		names = append(names, o.name)
	}
	return names
}

func commandNames() []string {
	var names []string
	for _, c := range commandTable {
		names = append(names, c.name)
	}
	return append(names, "accepteula", "partition", "vmserialnum")
}

// closest returns the candidate that a slip of the finger makes word from, or "".
func closest(word string, candidates []string) string {
	best, bestDistance := "", 3
	if len(word) > 40 {
		return ""
	}
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance && d < len(c)/2 {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of insertions, deletions and replacements between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
