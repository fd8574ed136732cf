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
	dir := t.TempDir()
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
	return err == nil, string(text)
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
