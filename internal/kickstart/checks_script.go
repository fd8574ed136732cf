package kickstart

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// section checks a script: its header, and its body by the rules of its
// interpreter.
func (l *linter) section(s section) {
	if s.name == "%packages" {
		l.installerWarnf(s.at, "%%packages is not used by ESXi, the installer ignores it up to the next section; delete it")
		return
	}
	c, _ := lookup(sectionTable, s.name)
	l.arguments(c, s.statement)
	python := l.interpreter(s)
	if t, ok := s.option("--timeout"); ok && t.value != "" {
		if n, err := strconv.Atoi(t.value); err != nil || n <= 0 {
			l.errorf(s.at, "--timeout=%s is not a number of seconds; write for example --timeout=300", show(t.value))
		}
	}
	if i, ok := s.option("--ignorefailure"); ok && i.value != "" && i.value != "true" && i.value != "false" {
		l.errorf(s.at, "--ignorefailure=%s is neither true nor false; write --ignorefailure=true or --ignorefailure=false", show(i.value))
	}
	if s.own {
		return
	}
	l.content(s)
	if python {
		l.python(s)
	} else {
		l.shell(s)
	}
}

// interpreter checks --interpreter and tells whether it is Python.
func (l *linter) interpreter(s section) (python bool) {
	a, ok := s.option("--interpreter")
	switch {
	case !ok:
		l.installerWarnf(s.at, "%s has no --interpreter, busybox is assumed; write %s --interpreter=busybox", s.name, s.name)
	case a.value == "python":
		return true
	case a.value != "" && a.value != "busybox":
		l.errorf(s.at, "--interpreter=%s is neither busybox nor python; write --interpreter=busybox", show(a.value))
	}
	return false
}

// content applies the rules that need no understanding of the script.
func (l *linter) content(s section) {
	var fetches, binary, execSwitchedOff bool
	for _, line := range s.body {
		text := strings.TrimSpace(line.text)
		if strings.HasPrefix(text, "#") {
			continue
		}
		execSwitchedOff = execSwitchedOff || strings.Contains(text, "execInstalledOnly")
		fetches = fetches || strings.Contains(text, "://")
		if strings.Contains(text, "ssh-ed25519") || strings.Contains(text, "-t ed25519") {
			l.warnf(line.at, "ESXi's SSH server runs in FIPS mode and refuses Ed25519 keys; use an RSA key of 3072 bits or more, or ECDSA")
		}
		if binary || execSwitchedOff || !shipsBinary(text, fetches) {
			continue
		}
		binary = true
		if l.version.before(8, 0) {
			l.notef(line.at, "a program put onto the host does not start from ESXi 8.0 on (execInstalledOnly); use a script, or install a VIB")
		} else {
			l.warnf(line.at, "a program put onto the host does not start there, ESXi runs only what belongs to a VIB (execInstalledOnly); use a script run by python or sh, or install a VIB")
		}
	}
}

// shipsBinary recognises an ELF program in base64 or as escapes, and a download
// that is made executable.
func shipsBinary(text string, fetches bool) bool {
	return strings.Contains(text, "f0VMR") || strings.Contains(text, `\x7fELF`) || strings.Contains(text, `\177ELF`) ||
		fetches && strings.Contains(text, "chmod") && makesExecutable.MatchString(text)
}

var makesExecutable = regexp.MustCompile(`chmod +([ugoa]*\+[rwst]*x|0?[0-7]*[1357][0-7]*) `)

// shell applies the rules for busybox scripts.
func (l *linter) shell(s section) {
	commands, badHereDocs := scanShell(s.body)
	for _, doc := range badHereDocs {
		if doc.indented {
			l.errorf(doc.at, "the end mark of the here-document must begin in the first column and have nothing behind it; delete the blanks")
		} else {
			l.errorf(doc.at, "the here-document that begins here never ends; write its end mark on a line of its own, in the first column")
		}
	}
	var waited, vimReported bool
	for n, c := range commands {
		argv := c.argv()
		if len(argv) == 0 {
			argv = []string{""}
		}
		switch {
		case stops(argv):
			l.stops(s, c.at)
		case kickstartCommand(argv):
			l.errorf(c.at, "%s is a command for the installer, but stands in the script of %s, which has no end; move it in front of the first section", argv[0], s.name)
		case s.name == "%firstboot" && argv[0] == "vim-cmd":
			waited = waited || c.polls
			if !waited && !vimReported {
				vimReported = true
				l.tooEarly(c.at)
			}
		case s.name == "%pre" && n == len(commands)-1 && argv[0] == "exit" && len(argv) > 1 && argv[1] != "0":
			l.warnf(c.at, "a %%pre script that ends with a status other than 0 stops the installation; write exit 0 if it succeeded")
		}
		l.network(s, c, argv)
		l.files(s, c, argv)
	}
}

// stops tells whether a command ends the system it runs on.
func stops(argv []string) bool {
	switch argv[0] {
	case "poweroff", "reboot", "halt", "shutdown", "shutdown.sh", "reboot.sh", "host_shutdown.sh", "host_reboot.sh":
		return true
	case "esxcli", "localcli":
		return slices.Contains(argv, "shutdown") && (slices.Contains(argv, "poweroff") || slices.Contains(argv, "reboot"))
	case "init":
		return len(argv) == 2 && (argv[1] == "0" || argv[1] == "6")
	}
	return false
}

func (l *linter) stops(s section, at pos) {
	if s.name == "%firstboot" {
		l.warnf(at, "this ends the first boot before esxid's agent, which runs last, has applied MAAS's configuration; delete it")
		return
	}
	l.errorf(at, "this stops the build VM before esxid's success marker is written, so the build would fail; delete it, esxid switches the VM off by itself")
}

// kickstartCommand tells whether a command of a script is meant for the
// installer. Anaconda's habit of writing commands behind %end leads to this.
func kickstartCommand(argv []string) bool {
	switch argv[0] {
	case "vmaccepteula", "accepteula", "rootpw", "clearpart", "installorupgrade", "vmserialnum", "serialnum", "dryrun", "paranoid":
		return true
	}
	c, ok := lookup(commandTable, argv[0])
	return ok && slices.ContainsFunc(argv[1:], func(word string) bool {
		name, _, _ := strings.Cut(word, "=")
		_, known := c.find(name)
		return known
	})
}

func (l *linter) tooEarly(at pos) {
	const advice = "wait for it first: until vim-cmd hostsvc/runtimeinfo >/dev/null 2>&1; do sleep 5; done"
	if l.version.before(8, 0) {
		l.notef(at, "vim-cmd may come too early here, before hostd is ready; %s", advice)
		return
	}
	l.warnf(at, "vim-cmd comes too early here: on ESXi 8 hostd is not ready during the first boot, and the command hangs or does nothing; %s", advice)
}

// network reports downloads in the build VM.
func (l *linter) network(s section, c shellCommand, argv []string) {
	if s.name == "%firstboot" || argv[0] == "echo" {
		return
	}
	if argv[0] == "wget" || argv[0] == "curl" || slices.ContainsFunc(argv, func(w string) bool { return remote.MatchString(w) }) {
		l.warnf(c.at, "the build VM has no network, so this cannot be fetched in %s; do it in %%firstboot", s.name)
	}
}

var remote = regexp.MustCompile(`^(https?|ftp|nfs)://`)

// files reports changes of files that do not have the wanted effect.
func (l *linter) files(s section, c shellCommand, argv []string) {
	appends := c.appends
	if argv[0] == "tee" && (slices.Contains(argv, "-a") || slices.Contains(argv, "--append")) {
		appends = append(slices.Clone(appends), argv[1:]...)
	}
	if slices.ContainsFunc(appends, func(f string) bool { return path.Base(f) == "local.sh" }) {
		l.warnf(c.at, "what is appended to local.sh never runs, as the file ends with exit 0; write the whole file with > and exit 0 as its last line (it runs from the second boot on)")
	}

	written := slices.Concat(c.writes, c.appends)
	if slices.Contains([]string{"sed", "tee", "cp", "mv", "vi", "awk", "patch"}, argv[0]) {
		written = append(written, argv[1:]...)
	}
	if !slices.ContainsFunc(written, func(f string) bool { return path.Base(f) == "sshd_config" }) {
		return
	}
	if l.version.before(8, 0) {
		l.notef(c.at, "from ESXi 8 on sshd_config is written anew from the configuration store, so this change gets lost there; use esxcli system ssh server config set -k KEY -v VALUE")
	} else {
		l.warnf(c.at, "ESXi 8 writes sshd_config anew from the configuration store after %%firstboot, so this change gets lost; use esxcli system ssh server config set -k KEY -v VALUE")
	}
}

var (
	pythonStops = regexp.MustCompile(`(system|popen|exec[lv]p?e?|run|call|check_call|check_output|Popen)\(.*\b(poweroff|reboot|halt|shutdown)\b`)
	fString     = regexp.MustCompile(`(^|[^A-Za-z0-9_'"])[fF][rR]?['"]`)
)

// python applies the rules for Python scripts, line by line.
func (l *linter) python(s section) {
	var waited, vimReported bool
	for _, line := range s.body {
		text := strings.TrimSpace(line.text)
		if strings.HasPrefix(text, "#") {
			continue
		}
		if pythonStops.MatchString(text) {
			l.stops(s, line.at)
		}
		if l.version.before(7, 0) && fString.MatchString(text) {
			l.errorf(line.at, "ESXi %s has Python 3.5, for which an f-string is a syntax error; use str.format", l.version.Number)
		}
		waited = waited || strings.Contains(text, "runtimeinfo")
		if s.name == "%firstboot" && strings.Contains(text, "vim-cmd") && !waited && !vimReported {
			vimReported = true
			l.tooEarly(line.at)
		}
	}
}
