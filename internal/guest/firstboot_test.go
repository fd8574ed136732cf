package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runFirstBoot runs the body of %firstboot with busybox's sh on a host whose
// banks hold the given agents; it returns whether it succeeded and what it
// wrote to the console.
func runFirstBoot(t *testing.T, agents map[string]string) (ok bool, console string) {
	t.Helper()
	ok, console, _ = runFirstBootIn(t, t.TempDir(), agents)
	return ok, console
}

// runFirstBootIn also returns the files that are left on the second boot bank,
// and how they begin.
func runFirstBootIn(t *testing.T, dir string, agents map[string]string) (ok bool, console string, left map[string]string) {
	t.Helper()
	for bank, agent := range agents {
		write(t, filepath.Join(dir, bank, "esxid/agent.py"), agent)
	}
	write(t, filepath.Join(dir, "bin/logger"), "#!/bin/sh\n")
	script := string(FirstBoot())
	for _, r := range [][2]string{
		{"PATH=/bin:/sbin", "PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH")},
		{"in /altbootbank /bootbank", "in " + dir + "/altbootbank " + dir + "/bootbank"},
		{">/dev/console", ">>" + dir + "/console"},
		{"/bin/python ", "python3 "},
		{"/etc/vmware/firewall", dir + "/firewall"},
	} {
		if !strings.Contains(script, r[0]) {
			t.Fatalf("the script has no %q", r[0])
		}
		script = strings.ReplaceAll(script, r[0], r[1])
	}
	err := exec.Command("busybox", "sh", "-c", script).Run()
	text, readErr := os.ReadFile(filepath.Join(dir, "console"))
	if readErr != nil {
		t.Fatal(readErr)
	}
	left = map[string]string{}
	paths, globErr := filepath.Glob(filepath.Join(dir, "altbootbank/esxid/*"))
	if globErr != nil {
		t.Fatal(globErr)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		left[filepath.Base(path)] = string(data)
	}
	return err == nil, string(text), left
}

func TestFirstBootStartsAgent(t *testing.T) {
	const good = "import sys; sys.exit(0 if sys.argv[1].endswith('/altbootbank/esxid') and sys.dont_write_bytecode else 1)"
	ok, console := runFirstBoot(t, map[string]string{"altbootbank": good, "bootbank": "import sys; sys.exit(1)"})
	if !ok || !strings.Contains(console, "altbootbank/esxid/firstboot.log") {
		t.Errorf("ok = %v, console: %s", ok, console)
	}
}

func TestFirstBootLooksOnBothBanks(t *testing.T) {
	if ok, console := runFirstBoot(t, map[string]string{"bootbank": "pass"}); !ok {
		t.Errorf("the agent on /bootbank was not started: %s", console)
	}
}

func TestFirstBootShowsFailure(t *testing.T) {
	ok, console := runFirstBoot(t, map[string]string{"altbootbank": "import sys; sys.exit(1)"})
	if ok || !strings.Contains(console, "could not be configured for MAAS") {
		t.Errorf("ok = %v, console: %s", ok, console)
	}
}

// The shell does not start a program whose output has no place to go.
func TestFirstBootStartsAgentWithoutALog(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bootbank/esxid/firstboot.log/is-a-directory"), "")
	if ok, console, _ := runFirstBootIn(t, dir, map[string]string{"bootbank": "pass"}); !ok {
		t.Errorf("the agent was not started: %s", console)
	}
}

// An agent that is killed is started again, once.
func TestFirstBootAfterKill(t *testing.T) {
	const dies = "import os, signal; open(os.path.dirname(__file__) + '/starts', 'a').write('x')\n"
	ok, console := runFirstBoot(t, map[string]string{"altbootbank": dies +
		"if os.path.getsize(os.path.dirname(__file__) + '/starts') == 1: os.kill(os.getpid(), signal.SIGKILL)\n"})
	if !ok || !strings.Contains(console, "ended before it was done, starting it again") {
		t.Errorf("ok = %v, console: %s", ok, console)
	}
	ok, console = runFirstBoot(t, map[string]string{"altbootbank": dies + "os.kill(os.getpid(), signal.SIGKILL)\n"})
	if ok || strings.Count(console, "starting it again") != 1 || !strings.Contains(console, "could not be configured") {
		t.Errorf("ok = %v, console: %s", ok, console)
	}
}

// Even an agent that cannot run leaves no credentials, and its reason in the log.
func TestFirstBootOfBrokenAgentLeavesTheLogOnly(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "altbootbank/esxid/config.json")
	write(t, config, "a secret")
	if err := os.Link(config, filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	ok, _, left := runFirstBootIn(t, dir, map[string]string{"altbootbank": "import nonsense"})
	if ok || len(left) != 1 || !strings.Contains(left["firstboot.log"], "nonsense") {
		t.Errorf("ok = %v, left: %q", ok, left)
	}
	data, err := os.ReadFile(filepath.Join(dir, "data"))
	if err != nil || strings.Trim(string(data), "\x00") != "" {
		t.Errorf("%v: the credentials are still on the disk: %q", err, data)
	}
}

// The agent's opening of the firewall is closed at once, not at the next boot.
func TestFirstBootOfBrokenAgentClosesTheFirewall(t *testing.T) {
	dir := t.TempDir()
	rules, refreshed := filepath.Join(dir, "firewall/esxid.xml"), filepath.Join(dir, "refreshed")
	write(t, rules, "<ConfigRoot/>")
	write(t, filepath.Join(dir, "bin/localcli"), "#!/bin/sh\n[ ! -e "+rules+" ] && echo \"$*\" >"+refreshed+"\n")
	runFirstBootIn(t, dir, map[string]string{"altbootbank": "import nonsense"})
	if text, err := os.ReadFile(refreshed); err != nil || string(text) != "network firewall refresh\n" {
		t.Errorf("%v: localcli was called with %q", err, text)
	}
}

func TestFirstBootWithoutDeployment(t *testing.T) {
	ok, console := runFirstBoot(t, nil)
	if ok || !strings.Contains(console, "no configuration from MAAS") {
		t.Errorf("ok = %v, console: %s", ok, console)
	}
}

func TestFirstBootShell(t *testing.T) {
	if out, err := exec.Command("shellcheck", "-s", "sh", "firstboot.sh").CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
