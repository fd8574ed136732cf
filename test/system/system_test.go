//go:build system

package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/esxid/esxid/test/debianvm"
)

// checks are the story, in order.
var checks = []struct {
	name string
	do   func(server)
	// vital: nothing after it makes sense if it fails.
	vital bool
}{
	{"install the package", installPackage, true},
	{"sandboxes", sandboxes, false},
	{"configure", configure, false},
	{"begin a build", beginBuild, true},
	{"nothing disturbs an installation", undisturbed, false},
	{"rights", rights, false},
	{"finish the build", finishBuild, true},
	{"published", published, false},
	{"start a deployment", startDeployment, false},
	{"idle", idle, false},
	{"deployed", deployed, false},
	{"MAAS is unreachable", unreachable, false},
	{"killed and rebooted", killed, false},
	{"the disk is full", diskFull, false},
	{"polkit is missing", polkitMissing, false},
	{"damaged records", damagedRecords, false},
	{"broken configuration", brokenConfiguration, false},
	{"secrets", secrets, false},
	{"remove and purge", removal, false},
}

func TestSystem(t *testing.T) {
	if err := os.MkdirAll(*outFlag, 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(*outFlag, "transcript.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dir := t.TempDir()
	s := &site{out: *outFlag, dir: dir, log: &transcript{file: file}}
	s.parts = makeParts(t, dir)
	began := time.Now()
	s.machine, err = debianvm.Start(t.Context(), debianvm.Config{
		Image: s.parts.image, Dir: dir, Payload: s.parts.payload(), Transcript: s.log, GuestPort: maasPort,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close(dir)
	t.Logf("boot: %.0f s (%s)", time.Since(began).Seconds(), s.machine.Accel)
	for _, c := range checks {
		passed := t.Run(c.name, func(t *testing.T) {
			s.log.section(c.name)
			defer func() {
				if t.Failed() {
					t.Logf("what the machine was told, and said:\n%s", s.log.excerpt())
				}
			}()
			c.do(server{t, s})
		})
		if !passed && c.vital {
			t.Fatal("the rest needs what failed")
		}
	}
}

// close ends the machine and keeps its journal and its console.
func (s *site) close(dir string) {
	s.log.section("the whole journal")
	script := "journalctl -q --no-hostname -o short-monotonic"
	if _, err := s.machine.Run(context.Background(), commandWithin(time.Minute, script)); err != nil {
		fmt.Fprintln(s.log, err)
	}
	s.machine.Close()
	if console, err := os.ReadFile(filepath.Join(dir, "console.txt")); err == nil {
		_ = os.WriteFile(filepath.Join(s.out, "console.txt"), console, 0o644)
	}
}
