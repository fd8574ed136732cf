package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/kickstart"
)

var testInfo = iso.Info{
	Path: "/in/a.iso", Size: 400 << 20, SHA256: strings.Repeat("ab", 32), Product: "VMware ESXi",
	Version: "8.0.3", Update: "U3b", Build: "24280767", Profile: "ESXi-8.0U3b-24280767-standard",
}

var testSource = kickstart.Source{Layers: []kickstart.Layer{{Path: "/etc/esxid/kickstart.d/8.0.cfg", Text: []byte("vmaccepteula\n")}}}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testPlan(t *testing.T, change func(*config.Config, *iso.Info, *kickstart.Source)) Plan {
	t.Helper()
	cfg, info, src := config.Default(), testInfo, kickstart.Source{Layers: append([]kickstart.Layer(nil), testSource.Layers...)}
	if change != nil {
		change(cfg, &info, &src)
	}
	p, err := NewPlan(cfg, info, src, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanKeys(t *testing.T) {
	base := testPlan(t, nil)
	tests := []struct {
		name                 string
		change               func(*config.Config, *iso.Info, *kickstart.Source)
		newInstall, newImage bool
	}{
		{"another file name", func(_ *config.Config, i *iso.Info, _ *kickstart.Source) { i.Path = "/in/b.iso" }, false, false},
		{"another place of the kickstart", func(_ *config.Config, _ *iso.Info, s *kickstart.Source) { s.Layers[0].Path = "/x.cfg" }, false, false},
		{"another boot resource name", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.Naming.Name = "esxi/x" }, false, false},
		{"another accelerator", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.VM.Accel = "tcg" }, false, false},
		{"another ISO", func(_ *config.Config, i *iso.Info, _ *kickstart.Source) { i.SHA256 = strings.Repeat("cd", 32) }, true, true},
		{"another kickstart", func(_ *config.Config, _ *iso.Info, s *kickstart.Source) { s.Layers[0].Text = []byte("accepteula\n") }, true, true},
		{"a second layer", func(_ *config.Config, _ *iso.Info, s *kickstart.Source) {
			s.Layers = append(s.Layers, kickstart.Layer{Path: "/x"})
		}, true, true},
		{"another NIC", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) {
			c.VM.Profile = map[string]config.Profile{"8": {NIC: "e1000e"}}
		}, true, true},
		{"an override for another version", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) {
			c.VM.Profile = map[string]config.Profile{"7": {NIC: "e1000e"}}
		}, false, false},
		{"a root password", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.RootPassword.Hash = "$6$a$b" }, true, true},
		{"an authority for vCenter", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) {
			c.Deploy.VCenterCAFile = "testdata/authority.pem"
		}, false, true},
		{"another answer to the unsupported", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.Deploy.Unsupported = "warn" }, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := testPlan(t, tt.change)
			if got := p.InstallKey != base.InstallKey; got != tt.newInstall {
				t.Errorf("new install key: %v, want %v", got, tt.newInstall)
			}
			if got := p.ImageKey != base.ImageKey; got != tt.newImage {
				t.Errorf("new image key: %v, want %v", got, tt.newImage)
			}
		})
	}
}

// A plan is shown, logged and stored readable; and its keys must not let anyone
// try passwords against them.
func TestPlanHoldsNoSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("Correct-Horse-9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.RootPassword.File = file
	a, err := NewPlan(cfg, testInfo, testSource, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewPlan(cfg, testInfo, testSource, []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	if a.InstallKey == b.InstallKey {
		t.Error("the key of a plan with a password does not depend on the secret")
	}
	if a.RootPassword != "file" {
		t.Errorf("root password source = %q", a.RootPassword)
	}
	text, err := json.Marshal(a)
	if err != nil || strings.Contains(string(text), "Horse") {
		t.Errorf("the plan shows the password: %s, %v", text, err)
	}
}

func TestPasswordFile(t *testing.T) {
	write := func(text string, mode fs.FileMode) string {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hash := "$6$saltsalt$" + strings.Repeat("x", 86)
	tests := []struct{ name, path, want, err string }{
		{name: "hash", path: write(hash+"\n", 0o600), want: hash},
		{name: "open to all", path: write("Secret-1-word", 0o644), err: "chmod 0640"},
		{name: "empty", path: write("\n", 0o600), err: "want one line"},
		{name: "two lines", path: write("a\nb\n", 0o600), err: "want one line"},
		{name: "huge", path: write(strings.Repeat("x", maxPasswordFile+1), 0o600), err: "has more than 4096 bytes"},
		{name: "directory", path: t.TempDir(), err: "is not a regular file"},
		{name: "missing", path: "/nonexistent/password", err: "root_password.file: cannot open /nonexistent/password: no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := passwordHash(&config.Config{RootPassword: config.RootPassword{File: tt.path}}, t.TempDir())
			if tt.err == "" {
				if err != nil || got != tt.want {
					t.Errorf("passwordHash = %q, %v", got, err)
				}
				return
			}
			if fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("err = %v, want %q of class Config", err, tt.err)
			}
			if strings.Contains(err.Error(), "Secret-1-word") {
				t.Error("the error shows the password")
			}
		})
	}
}

func TestRandomPasswordIsKept(t *testing.T) {
	dir := t.TempDir()
	if _, err := passwordHash(config.Default(), dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, passwordFileName)
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the password file = %v", info.Mode())
	}
	if _, err := passwordHash(config.Default(), dir); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(path); string(again) != string(first) {
		t.Error("an interrupted step made another password")
	}
}

func TestTransitions(t *testing.T) {
	for from := range next {
		for to := range next {
			b := &Build{State: from}
			err := b.To(to, now)
			allowed := from == to
			for _, s := range next[from] {
				allowed = allowed || s == to
			}
			if (err == nil) != allowed {
				t.Errorf("%s → %s: %v", from, to, err)
			}
		}
	}
}

func TestStoreRoundTrip(t *testing.T) {
	s := testStore(t)
	plan := testPlan(t, nil)
	b, err := s.Create(plan, testSource, "/isos/a.iso", now)
	if err != nil {
		t.Fatal(err)
	}
	b.Steps[StepKickstart] = StepRecord{Finished: now, Seconds: 0.5, Note: "n"}
	if err := s.Save(b); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load(plan.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got, cmp.AllowUnexported()); diff != "" {
		t.Errorf("loaded build differs (-saved +loaded):\n%s", diff)
	}
	src, err := s.readLayers(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(testSource, src); diff != "" {
		t.Errorf("layers differ:\n%s", diff)
	}
}

func TestUpdateForgetsWhatDepends(t *testing.T) {
	all := map[string]bool{StepKickstart: true, StepInstall: true, StepCustomize: true, StepPack: true, StepVerify: true, StepPublish: true}
	tests := []struct {
		name   string
		change func(*config.Config, *iso.Info, *kickstart.Source)
		forgot string // the first step that runs again
		state  State
	}{
		{"nothing", nil, "", Done},
		{"payload settings", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.Deploy.Unsupported = "warn" }, StepCustomize, Queued},
		{"name", func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.Naming.Name = "esxi/8" }, StepVerify, Queued},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testStore(t)
			b, err := s.Create(testPlan(t, nil), testSource, "/i.iso", now)
			if err != nil {
				t.Fatal(err)
			}
			for step := range all {
				b.Steps[step] = StepRecord{Finished: now}
			}
			b.State = Done
			if err := s.Update(b, testPlan(t, tt.change), "/i.iso", now); err != nil {
				t.Fatal(err)
			}
			if b.State != tt.state {
				t.Errorf("state = %s, want %s", b.State, tt.state)
			}
			again := false
			for _, step := range Steps {
				again = again || step == tt.forgot
				if b.done(step) == again {
					t.Errorf("step %s done: %v", step, b.done(step))
				}
			}
		})
	}
}

// A failed customization is tried again with another payload.
func TestUpdateTriesAFailedBuildAgain(t *testing.T) {
	s := testStore(t)
	b, err := s.Create(testPlan(t, nil), testSource, "/i.iso", now)
	if err != nil {
		t.Fatal(err)
	}
	b.State, b.Steps[StepInstall] = Failed, StepRecord{Finished: now}
	if err := s.Update(b, testPlan(t, nil), "/i.iso", now); err != nil || b.State != Failed {
		t.Errorf("nothing changed: state = %s, %v", b.State, err)
	}
	warn := testPlan(t, func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.Deploy.Unsupported = "warn" })
	if err := s.Update(b, warn, "/i.iso", now); err != nil || b.State != Queued || !b.done(StepInstall) {
		t.Errorf("another payload: state = %s, %v", b.State, err)
	}
}

// Who cannot use nbd is told to set image.access; that must count for the build
// that waits for it.
func TestUpdateTakesOverTheAccess(t *testing.T) {
	s := testStore(t)
	b, err := s.Create(testPlan(t, nil), testSource, "/i.iso", now)
	if err != nil {
		t.Fatal(err)
	}
	b.Steps[StepCustomize] = StepRecord{Finished: now}
	direct := testPlan(t, func(c *config.Config, _ *iso.Info, _ *kickstart.Source) { c.Image.Access = "direct" })
	if err := s.Update(b, direct, "/i.iso", now); err != nil || b.Plan.Access != "direct" || !b.done(StepCustomize) {
		t.Errorf("access = %s, %v", b.Plan.Access, err)
	}
}

// A saved ESP belongs to one disk only.
func TestNewDiskForgetsTheSavedESP(t *testing.T) {
	dir := t.TempDir()
	d, err := openDirectory(filepath.Dir(dir), filepath.Base(dir), anyOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	r := &jobRun{dir: d}
	disk := filepath.Join(dir, "new")
	for _, path := range []string{disk, filepath.Join(dir, espName)} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := r.takeDisk(disk); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, espName)); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the ESP of an earlier disk is still there")
		}
		disk = filepath.Join(dir, diskName) // renaming a file to its own name does nothing
	}
}

// With another key everything would be built again, so only a missing one is made.
func TestFingerprintKey(t *testing.T) {
	s := testStore(t)
	path := filepath.Join(filepath.Dir(s.Builds), secretName)
	first, err := s.Secret()
	if err != nil || len(first) != secretSize {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if again, err := s.Secret(); err != nil || !bytes.Equal(again, first) {
		t.Errorf("the key has changed, %v", err)
	}
	for _, damaged := range [][]byte{{}, first[:secretSize-1], append(first, '\n')} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Secret(); fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%d bytes: %v", len(damaged), err)
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, damaged) {
			t.Errorf("%d bytes: the file was changed, %v", len(damaged), err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if other, err := s.Secret(); err != nil || bytes.Equal(other, first) {
		t.Errorf("no new key, %v", err)
	}
}

func TestDamagedRecords(t *testing.T) {
	s := testStore(t)
	b, err := s.Create(testPlan(t, nil), testSource, "/i.iso", now)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(b.ID()), recordName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":         "",
		"cut":           string(good[:len(good)/2]),
		"not JSON":      "hello",
		"other format":  strings.Replace(string(good), `"format": 1`, `"format": 9`, 1),
		"unknown state": strings.Replace(string(good), `"queued"`, `"flying"`, 1),
		"other build":   strings.ReplaceAll(string(good), b.ID(), "8.0.3-1-00000000"),
		"huge":          string(good) + strings.Repeat(" ", maxRecord),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Load(b.ID()); fault.ClassOf(err) != fault.Input || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("err = %v", err)
			}
			builds, damaged, err := s.All()
			if err != nil || len(builds) != 0 || damaged[b.ID()] == nil {
				t.Errorf("All = %d builds, damaged %v, %v", len(builds), damaged, err)
			}
		})
	}
}

func TestLoadRefusesPaths(t *testing.T) {
	s := testStore(t)
	for _, id := range []string{"", "..", "../../etc", "a/b", "8.0.3-1-0000000", "8.0.3-1-00000000/.."} {
		if _, err := s.Load(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load(%q) = %v", id, err)
		}
	}
}

func TestClean(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b*") // nothing to be taken for a pattern
	s, err := OpenStore(filepath.Join(dir, "builds"), filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Create(testPlan(t, nil), testSource, "/i.iso", now)
	if err != nil {
		t.Fatal(err)
	}
	leftovers := []string{
		filepath.Join(s.Builds, ".new-1"), filepath.Join(s.Images, ".new-2"), filepath.Join(s.Dir(b.ID()), ".install"),
	}
	others := []string{
		filepath.Join(s.Images, ".new-york"), filepath.Join(s.Images, ".git"), filepath.Join(s.Builds, "lost+found", ".x"),
	}
	for _, dir := range append(leftovers, others...) {
		if err := os.MkdirAll(filepath.Join(dir, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Clean(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range leftovers {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", dir)
		}
	}
	for _, dir := range others {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("what is not ours was removed: %v", err)
		}
	}
	if _, err := s.Load(b.ID()); err != nil {
		t.Errorf("the build is gone: %v", err)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	s := testStore(t)
	b, err := s.Create(testPlan(t, nil), testSource, "/i.iso", now)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := errors.Join(s.Remove(b.ID()), s.RemoveImage(b)); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(s.Builds); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func testStore(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := OpenStore(filepath.Join(dir, "builds"), filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
