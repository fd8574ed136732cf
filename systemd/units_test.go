// Package systemd tests the files for systemd and polkit beside it.
package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The exposure that systemd-analyze may find at most, in tenths; 100 is a service
// without any protection. Newer versions of systemd look at more.
var units = map[string]int{
	"esxid.service":            13,
	"esxid-install@.service":   8,
	"esxid-customize@.service": 15,
}

// testUnit copies a unit to where its program exists.
func testUnit(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), "=/usr/bin/esxid ", "=/bin/true ")
	if changed == string(text) {
		t.Errorf("%s does not start /usr/bin/esxid", name)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func analyze(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemd-analyze", append([]string{"--no-pager"}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestUnits(t *testing.T) {
	dir := t.TempDir()
	for name, limit := range units {
		t.Run(name, func(t *testing.T) {
			unit := testUnit(t, dir, name)
			if out := analyze(t, "verify", "--man=no", "--recursive-errors=no", unit); out != "" {
				t.Errorf("systemd finds fault with it:\n%s", out)
			}
			out := analyze(t, "security", "--offline=true", fmt.Sprintf("--threshold=%d", limit), unit)
			_, score, _ := strings.Cut(strings.TrimSpace(out), "Overall")
			t.Log(score)
		})
	}
}

// The service may have systemd start and stop its steps and the module, and nothing
// else.
func TestPolkitRule(t *testing.T) {
	text, err := os.ReadFile("esxid.rules")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`/(\^.*\$)/\.test\(unit\)`).FindSubmatch(text)
	if m == nil {
		t.Fatal("the rule does not test the unit's name")
	}
	// The expression means the same in JavaScript and in Go.
	allowed := regexp.MustCompile(string(m[1]))
	for unit, want := range map[string]bool{
		"esxid-install@8.0.3-24677879-1a2b3c4d.service":     true,
		"esxid-customize@9.0.0.0-24755229-00ff00ff.service": true,
		"modprobe@nbd.service":                              true,
		"modprobe@loop.service":                             false,
		"esxid.service":                                     false,
		"esxid-install@.service":                            false,
		"esxid-install@...service":                          false,
		"esxid-install@8.0.3-1-a.service.d":                 false,
		"esxid-install@8.0-1-a.timer":                       false,
		"esxid-publish@8.0.3-1-a.service":                   false,
		"xesxid-install@8.0.3-1-a.service":                  false,
		"esxid-customize@-var-lib.service":                  false,
		"esxid-customize@8..3.service":                      false,
		"modprobe@nbd.service\nssh.service":                 false,
		"ssh.service\nmodprobe@nbd.service":                 false,
	} {
		if got := allowed.MatchString(unit); got != want {
			t.Errorf("%q: allowed %v, want %v", unit, got, want)
		}
	}
}
