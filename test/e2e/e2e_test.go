// Package e2e tests the main job: the esxid program, real QEMU, the simulated
// installer and the MAAS stand-in, from an ISO to a published image.
package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/maassim"
)

// esxid is the program under test, built once.
var esxid string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "esxid-e2e-")
	if err == nil {
		esxid = filepath.Join(dir, "esxid")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", esxid, "../../cmd/esxid").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot build esxid:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// makeISO makes a simulated installer with a small payload.
func makeISO(t *testing.T, o esxisim.Options) string {
	t.Helper()
	o.PayloadMiB = 8
	path := filepath.Join(t.TempDir(), "installer.iso")
	if err := esxisim.BuildISO(t.Context(), o, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// manifest is what the tests read of a manifest.json.
type manifest struct {
	Name, Title, Layout, SHA256 string
	Checks                      []struct {
		Name string
		OK   bool
	}
}

func readManifest(t *testing.T, dir string) manifest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryVersion(t *testing.T) {
	tests := []struct {
		iso                 esxisim.Options
		name, title, layout string
	}{
		{esxisim.Options{Version: "6.5", Build: "5969303"}, "esxi/6.5", "VMware ESXi 6.5", "6"},
		{esxisim.Options{Version: "6.7", Build: "8169922"}, "esxi/6.7", "VMware ESXi 6.7", "6"},
		{esxisim.Options{Version: "7.0.3", Build: "19482537"}, "esxi/7.0", "VMware ESXi 7.0 U3d", "7"},
		{esxisim.Options{Version: "8.0.3", Build: "24280767", OEM: "dell"}, "esxi/8.0-dell", "VMware ESXi 8.0 U3 (Dell)", "7"},
		{esxisim.Options{Version: "9.0", Build: "24755229"}, "esxi/9.0", "VMware ESX 9.0", "7"},
	}
	for _, tt := range tests {
		t.Run(tt.iso.Version+tt.iso.OEM, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			stdout, err := exec.CommandContext(t.Context(), esxid, "build", "--json", "--accel", "tcg", "--output", out, makeISO(t, tt.iso)).Output()
			if err != nil {
				t.Fatalf("esxid build: %v\n%s", err, stdout)
			}
			lines := strings.Split(strings.TrimSpace(string(stdout)), "\n")
			var last struct {
				Image string
				Steps []struct {
					Name    string
					Seconds float64
				}
			}
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
				t.Fatalf("last line %q: %v", lines[len(lines)-1], err)
			}
			var steps []string
			for _, s := range last.Steps {
				steps = append(steps, s.Name)
			}
			if got, want := strings.Join(steps, " "), "identify kickstart install customize pack verify"; got != want {
				t.Errorf("steps = %q, want %q", got, want)
			}
			m := readManifest(t, filepath.Dir(last.Image))
			if m.Name != tt.name || m.Title != tt.title || m.Layout != tt.layout {
				t.Errorf("name %q, title %q, layout %q; want %q, %q, %q", m.Name, m.Title, m.Layout, tt.name, tt.title, tt.layout)
			}
			if text, err := exec.CommandContext(t.Context(), esxid, "verify", last.Image).CombinedOutput(); err != nil {
				t.Errorf("esxid verify: %v\n%s", err, text)
			}
			if left := entries(t, out); len(left) != 1 {
				t.Errorf("left in the output directory: %v", left)
			}
		})
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// service is a running esxid run.
type service struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // its log
	ended chan struct{}

	mu  sync.Mutex
	log []string
}

func startService(t *testing.T, config string) *service {
	t.Helper()
	s := &service{t: t, cmd: exec.Command(esxid, "run", "--config", config), lines: make(chan string, 1000), ended: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		for scan := bufio.NewScanner(stderr); scan.Scan(); {
			s.mu.Lock()
			s.log = append(s.log, scan.Text())
			s.mu.Unlock()
			s.lines <- scan.Text()
		}
		_ = s.cmd.Wait()
	}()
	t.Cleanup(func() { s.end(os.Kill) })
	return s
}

func (s *service) end(how os.Signal) {
	_ = s.cmd.Process.Signal(how)
	<-s.ended
}

// until waits for a line of the log that contains all of the words.
func (s *service) until(words ...string) {
	s.t.Helper()
	timeout := time.After(3 * time.Minute)
	for {
		select {
		case line := <-s.lines:
			found := true
			for _, w := range words {
				found = found && strings.Contains(line, w)
			}
			if found {
				return
			}
			if strings.Contains(line, `msg="The build of`) {
				s.t.Fatalf("waiting for %q: %s", words, line)
			}
		case <-s.ended:
			s.t.Fatalf("esxid ended; its log:\n%s", strings.Join(s.log, "\n"))
		case <-timeout:
			s.t.Fatalf("timed out waiting for %q; the log:\n%s", words, strings.Join(s.log, "\n"))
		}
	}
}

// site is a state directory, a configuration and a MAAS.
type site struct {
	dir, config string
	maas        *maassim.Sim
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	maasDir := t.TempDir()
	sim, err := maassim.New(maassim.Options{Dir: maasDir, Generation: "3.6"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	key := filepath.Join(dir, "maas.key")
	if err := os.WriteFile(key, []byte(sim.AdminKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "esxid.toml")
	text := fmt.Sprintf(`
state_dir = "%[1]s/state"
runtime_dir = "%[1]s/run"
kickstart_dir = "%[1]s/kickstart.d"
[vm]
accel = "tcg"
[watch]
settle = "100ms"
[[target]]
type = "maas"
name = "test"
url = "%[2]s/MAAS"
api_key_file = "%[3]s"
`, dir, server.URL, key)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &site{dir: dir, config: config, maas: sim}
}

func (s *site) drop(t *testing.T, iso, name string) {
	t.Helper()
	incoming := filepath.Join(s.dir, "state", "incoming")
	if err := os.MkdirAll(incoming, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", iso, filepath.Join(incoming, name)).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// TestKilledInEachStep kills the service as each step begins; the next start
// must go on, and in the end nothing may be left over.
func TestKilledInEachStep(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	iso := makeISO(t, esxisim.Options{Version: "6.7", Build: "8169922"})
	site.drop(t, iso, "a.iso")
	for _, step := range []string{"kickstart", "install", "customize", "pack", "verify", "publish"} {
		s := startService(t, site.config)
		s.until(step+" begins.", "step="+step)
		s.end(os.Kill)
		site.waitForQEMU(t)
	}
	s := startService(t, site.config)
	s.until(`msg="Published `)
	s.end(syscall.SIGTERM)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code after SIGTERM = %d", code)
	}

	images := site.maas.Images()
	if len(images) != 1 || images[0].Name != "esxi/6.7" {
		t.Errorf("MAAS has %+v", images)
	}
	if err := site.maas.CheckImages(); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(site.dir, "state", "images", "esxi-6.7-8169922")
	if m := readManifest(t, dir); len(images) == 1 && m.SHA256 != images[0].SHA256 {
		t.Errorf("MAAS has sha256 %s, the manifest says %s", images[0].SHA256, m.SHA256)
	}
	site.checkClean(t)
}

// waitForQEMU waits until no process works on the site any more.
func (s *site) waitForQEMU(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		left := s.processes(t)
		if len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("processes left: %v", left)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *site) processes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), s.dir) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

// checkClean fails for every file that has no business being there.
func (s *site) checkClean(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.dir, "state"), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := e.Name()
		if (strings.HasPrefix(name, ".") && name != ".lock") || strings.Contains(name, ".tmp") {
			t.Errorf("left over: %s", path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if left := entries(t, filepath.Join(s.dir, "state", "incoming")); len(left) != 0 {
		t.Errorf("left in incoming: %v", left)
	}
}

// The same ISO again, and under another name, is one build; a changed override
// is another.
func TestSameISOBuildsOnce(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	iso := makeISO(t, esxisim.Options{Version: "7.0.3", Build: "19482537"})
	s := startService(t, site.config)
	s.until(`msg="Watching `)
	site.drop(t, iso, "first.iso")
	s.until(`msg="Published `)
	site.drop(t, iso, "first.iso")
	s.until("is known already")
	site.drop(t, iso, "other name.iso")
	s.until("is known already")

	override := "vmaccepteula\ninstall --firstdisk=local --overwritevmfs --novmfsondisk\nnetwork --bootproto=dhcp --device=vmnic0\n" +
		"%post --interpreter=busybox --ignorefailure=true\nvsish -e set /system/log \"site $(echo override) ran\"\n"
	if err := os.WriteFile(filepath.Join(site.dir, "kickstart.d", "8.0.cfg"), []byte(override), 0o600); err != nil {
		t.Fatal(err)
	}
	s.until("Kickstart overrides changed", "8.0.cfg") // affects nothing
	if err := os.WriteFile(filepath.Join(site.dir, "kickstart.d", "7.cfg"), []byte(override), 0o600); err != nil {
		t.Fatal(err)
	}
	s.until(`msg="Published `)
	s.end(syscall.SIGTERM)

	installs := 0
	for _, line := range s.log {
		if strings.Contains(line, "install begins.") && strings.Contains(line, "step=install") {
			installs++
		}
	}
	if installs != 2 {
		t.Errorf("%d installations, want 2", installs)
	}
	consoles, err := filepath.Glob(filepath.Join(site.dir, "state", "builds", "*", "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	for _, c := range consoles {
		text, err := os.ReadFile(c)
		if err != nil {
			t.Fatal(err)
		}
		ran = ran || strings.Contains(string(text), "site override ran")
	}
	if !ran {
		t.Error("the override's post section did not run")
	}
	site.checkClean(t)
}

// Ctrl-C while the installer runs ends everything and leaves nothing.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	iso := makeISO(t, esxisim.Options{Version: "8.0.3", Build: "24280767"})
	cmd := exec.Command(esxid, "build", "--accel", "tcg", "--output", out, iso)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var log []string
	for scan := bufio.NewScanner(stderr); scan.Scan(); {
		log = append(log, scan.Text())
		if strings.Contains(scan.Text(), "install: started") {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code = %d, want 130; log:\n%s", code, strings.Join(log, "\n"))
	}
	if left := entries(t, out); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if left := (&site{dir: out}).processes(t); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
}
