package kickstart

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Lint checks src against the installer's grammar and against what is known to
// break unattended builds, images or deployed hosts. The findings are in the
// order of the files and their lines. v decides where versions differ; with an
// unknown version the newest one's rules apply.
//
// An unknown command is an error: the installer only warns about it, so a
// slip of the finger would otherwise go into the image unseen.
func Lint(src Source, v Version) []Finding { return lint(src, v, false) }

// lint is Lint; rendered allows what Render adds.
func lint(src Source, v Version, rendered bool) []Finding {
	if len(src.Layers) == 0 {
		return []Finding{{Line: 1, Level: Error, Text: "there is no kickstart file to check"}}
	}
	l := &linter{script: parse(src), version: v, rendered: rendered}
	for _, s := range l.commands {
		l.command(s)
	}
	l.repeated()
	if !l.notText {
		l.required()
	}
	for _, s := range l.sections {
		l.section(s)
	}
	if i := slices.IndexFunc(l.sections, func(s section) bool { return s.name == "%firstboot" && !s.own }); i >= 0 {
		l.notef(l.sections[i].at, "%%firstboot is skipped silently on hosts with UEFI Secure Boot; switch Secure Boot off on them")
	}
	if !rendered {
		for _, at := range l.marked {
			l.errorf(at, "this text was added by esxid: the file is a rendered one; take the file it was made from, or delete all that is marked so")
		}
	}
	return l.findings()
}

type linter struct {
	*script
	version  Version
	rendered bool
}

// findings sorts the problems and gives them their files' names.
func (l *linter) findings() []Finding {
	problems := l.problems
	if l.dropped != nil {
		problems = append(problems, *l.dropped)
	}
	slices.SortStableFunc(problems, func(a, b problem) int {
		if a.at.layer != b.at.layer {
			return a.at.layer - b.at.layer
		}
		return a.at.line - b.at.line
	})
	_, paranoid := l.first("paranoid")
	findings := make([]Finding, 0, len(problems))
	for _, p := range problems {
		if paranoid && p.installer && p.level != Error {
			p.level, p.text = Error, p.text+" (\"paranoid\" makes this an error)"
		}
		findings = append(findings, Finding{l.src.Layers[p.at.layer].Path, p.at.line, p.level, p.text})
	}
	return findings
}

func (l *linter) command(s statement) {
	name := canonical(s.name)
	c, known := lookup(commandTable, name)
	switch {
	case known:
		l.arguments(c, s)
		l.check(name, s)
	case s.name == "firstboot":
		l.installerWarnf(s.at, "this command is ignored by ESXi; for a script write %%firstboot, with the percent sign")
	case isIgnored(s.name):
		l.installerWarnf(s.at, "%s is not used by ESXi, the installer ignores it; delete the line", s.name)
	case slices.Contains([]string{"halt", "poweroff", "shutdown"}, s.name):
		l.errorf(s.at, "%s is no command of an ESXi kickstart; delete the line, esxid switches the build VM off by itself", s.name)
	case !isSection(s.name): // a misplaced keyword is reported by parse
		l.unknown(s)
	}
}

// A word in a command's place is only repeated in a finding if it looks like a
// command: it may be the second half of a broken rootpw line.
var plainName = regexp.MustCompile(`^%?[a-z]{2,20}$`)

func (l *linter) unknown(s statement) {
	i := slices.IndexFunc(l.commands, func(o statement) bool { return o.at == s.at })
	secret := i > 0 && l.commands[i-1].name == "rootpw" && len(l.commands[i-1].positional()) == 0
	secret = secret || strings.HasPrefix(s.name, "rootpw") && len(s.name) > len("rootpw")+2
	if secret || !plainName.MatchString(s.name) {
		l.errorf(s.at, "this is no command of an ESXi kickstart; correct or delete the line, or put a # before it")
		return
	}
	if near := closest(s.name, append(commandNames(), sectionKeywords...)); near != "" {
		l.errorf(s.at, "unknown command %s; did you mean %s?", s.name, near)
		return
	}
	l.errorf(s.at, "unknown command %s; delete the line, or put it into a %%firstboot section if it is meant for the shell", s.name)
}

var optionName = regexp.MustCompile(`^--[A-Za-z]{1,30}$`)

// arguments checks s against what c takes.
func (l *linter) arguments(c command, s statement) {
	seen := map[string]bool{}
	for _, a := range s.args {
		if a.name == "" {
			continue
		}
		o, ok := c.find(a.name)
		if !ok {
			l.unknownOption(c, s, a)
			continue
		}
		if seen[o.name] {
			l.warnf(s.at, "%s is given twice; the last one counts, delete the other", o.name)
		}
		seen[o.name] = true
		switch {
		case o.gone:
			l.installerWarnf(s.at, "%s is not used any more, the installer ignores it; delete it", o.name)
		case o.takes == nothing && a.hasValue:
			l.warnf(s.at, "%s takes no value; write only %s", o.name, o.name)
		case a.hasValue && a.value == "", o.takes == value && !a.hasValue:
			l.errorf(s.at, "%s needs a value; write %s=VALUE, without blanks around the =", o.name, o.name)
		case l.version.before(o.since[0], o.since[1]):
			l.add(problem{s.at, Note, true, fmt.Sprintf("%s is not known to ESXi %s, which warns and ignores it; it is used from %d.%d on", o.name, l.version.Number, o.since[0], o.since[1])})
		}
	}
	switch n := len(s.positional()); {
	case n < c.args:
		l.errorf(s.at, "%s needs %s behind it", s.name, subject[canonical(s.name)])
	case n > c.args && canonical(s.name) == "keyboard":
		l.warnf(s.at, "more than one word behind keyboard; put a name with a blank in quotes: keyboard 'US Default'")
	case n > c.args && s.name != "install":
		l.installerWarnf(s.at, "more words behind %s than it takes; the installer ignores them, delete them", s.name)
	}
}

// subject says what a command's positional argument is.
var subject = map[string]string{
	"rootpw":   "a password, or --iscrypted and a hash,",
	"keyboard": "a keyboard's name, for example 'US Default',",
	"part":     "the name of the datastore",
	"%include": "a path",
}

func (l *linter) unknownOption(c command, s statement, a argument) {
	switch near := closest(a.name, c.optionNames()); {
	case !optionName.MatchString(a.name), s.name == "rootpw":
		l.installerWarnf(s.at, "%s has no such option; the installer ignores it, delete it", s.name)
	case near != "":
		l.installerWarnf(s.at, "%s has no option %s, the installer ignores it; did you mean %s?", s.name, a.name, near)
	default:
		l.installerWarnf(s.at, "%s has no option %s, the installer ignores it; delete it", s.name, a.name)
	}
}

// repeated reports commands that are given more than once.
func (l *linter) repeated() {
	seen := map[string]statement{}
	for _, s := range l.commands {
		name := canonical(s.name)
		kind := name
		if isInstall(s) {
			kind = "install"
		}
		if _, known := lookup(commandTable, name); !known || name == "%include" {
			continue
		}
		before, again := seen[kind]
		seen[kind] = s
		switch {
		case !again:
		case kind == "install":
			l.errorf(s.at, "%s cannot stand beside %s at %s; keep exactly one of install, installorupgrade and upgrade", s.name, before.name, l.place(before.at))
		case name == "part":
			// a line per datastore
		default:
			l.installerWarnf(s.at, "%s is given at %s already; this one counts, delete the other", s.name, l.place(before.at))
		}
	}
}

// isInstall tells whether s says what to do with the disk.
func isInstall(s statement) bool {
	return s.name == "install" || s.name == "installorupgrade" || s.name == "upgrade"
}

// required reports commands that are missing.
func (l *linter) required() {
	top := pos{0, 1}
	missing := l.errorf
	if l.has("%include") {
		missing = func(at pos, format string, args ...any) {
			l.warnf(at, format+" (unless an included file has it)", args...)
		}
	}
	if !l.has("vmaccepteula") && !l.has("upgrade") {
		missing(top, "vmaccepteula is missing, the installer would stop; add the line vmaccepteula if you accept VMware's licence")
	}
	if !l.has("install", "installorupgrade", "upgrade") {
		missing(top, "the file does not say what to install; add: install --firstdisk=local --overwritevmfs --novmfsondisk")
	}
	if !l.has("network") && !l.has("upgrade") {
		l.installerWarnf(top, "network is missing, the installer assumes DHCP; add: network --bootproto=dhcp --device=vmnic0")
	}
}

// show quotes a value from the file for a finding.
func show(v string) string {
	if len(v) > 40 {
		v = strings.ToValidUTF8(v[:40], "") + "..."
	}
	return fmt.Sprintf("%+q", v)
}
