package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/journal"
)

// configFile makes the daemon read its configuration from a file that a test may
// rewrite: the rig's directories, and more.
func (r *rig) configFile() (write func(more string)) {
	path := filepath.Join(r.t.TempDir(), "esxid.toml")
	write = func(more string) {
		r.t.Helper()
		text := fmt.Sprintf("state_dir = %q\nruntime_dir = %q\nkickstart_dir = %q\n%s[watch]\nsettle = \"20ms\"\n", r.cfg.StateDir, r.cfg.RuntimeDir, r.cfg.KickstartDir, more)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	r.load = func() (*config.Config, error) { return config.Load(path) }
	return write
}

// directoryTarget is the configuration of a target that works.
func directoryTarget(t *testing.T, name string) (text, path string) {
	path = t.TempDir()
	return fmt.Sprintf("[[target]]\ntype = \"directory\"\nname = %q\npath = %q\n", name, path), path
}

// A new target gets the images that are there.
func TestReloadWithANewTarget(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	write := r.configFile()
	r.addISO("8.0.3", "24280767")
	r.run()
	r.until("published", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	target, path := directoryTarget(t, "t")
	write(target)
	r.f.mu.Lock()
	r.f.address = path
	r.f.mu.Unlock()
	m.drain()
	r.Reload()
	if got := m.until("RELOADING=1"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
		t.Errorf("notified %q without the time", got)
	}
	m.until("READY=1")
	r.until("published again", func(map[string]*build.Build) bool {
		r.f.mu.Lock()
		defer r.f.mu.Unlock()
		return len(r.f.sent) == 2
	})
	if len(r.f.made) != 1 {
		t.Errorf("made %v", r.f.made)
	}
}

// A configuration that cannot be used changes nothing, says where it is wrong, and
// says so until it is mended. A running build goes on.
func TestReloadRefused(t *testing.T) {
	target, _ := directoryTarget(t, "t")
	notADirectory := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADirectory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, text, want string }{
		{"unknown key", "kickstart_dri = \"/x\"\n" + target, "esxid.toml:4: unknown key kickstart_dri"},
		{"wrong type", target + "keep_old = \"yes\"\n", `esxid.toml:8: target.keep_old: want true or false`},
		{"wrong value", "[vm]\naccel = \"fast\"\n" + target, `esxid.toml:5: vm.accel: want one of kvm, tcg, auto`},
		{"not TOML", "[vm\n", `expected '.' or ']' to end table name`},
		{"missing", "", "cannot read the configuration: open "},
		{"unreachable kickstart_dir", "", "it does not exist: create it"},
		{"kickstart_dir that is a file", "", "is not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t)
			r := newRig(t, t.TempDir())
			r.f.block = make(chan struct{})
			write := r.configFile()
			r.addISO("8.0.3", "24280767")
			r.run()
			<-r.f.started
			was := r.settings()
			wrong := *r.cfg
			switch tt.name {
			case "missing":
			case "unreachable kickstart_dir":
				r.cfg.KickstartDir = filepath.Join(t.TempDir(), "none", "none")
				write(target)
			case "kickstart_dir that is a file":
				r.cfg.KickstartDir = notADirectory
				write(target)
			default:
				write(tt.text)
			}
			m.drain()
			r.Reload()
			m.until("RELOADING=1")
			if got := m.until("STATUS="); !strings.Contains(got, "The new configuration is not used: ") || !strings.Contains(got, tt.want) || !strings.Contains(got, "Preparing esxi/8.0") {
				t.Errorf("the status is %q, want %q in it", got, tt.want)
			}
			m.until("READY=1")
			if n := r.logs.count(journal.ConfigRefused, tt.want); n != 1 {
				t.Errorf("%d messages with %q", n, tt.want)
			}
			if r.settings() != was {
				t.Error("the settings were replaced")
			}
			*r.cfg = wrong
			write(target)
			r.Reload()
			if got := m.until("STATUS="); strings.Contains(got, "not used") {
				t.Errorf("mended, the status is %q", got)
			}
			m.until("READY=1")
			close(r.f.block)
			r.until("built", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
			if len(r.f.made) != 1 {
				t.Errorf("made %v", r.f.made)
			}
		})
	}
}

// The directories of the running builds do not change under them.
func TestReloadKeepsTheStateDirectory(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	write := r.configFile()
	old := *r.cfg
	r.run()
	m.until("READY=1")
	r.cfg = &config.Config{StateDir: t.TempDir(), RuntimeDir: t.TempDir(), KickstartDir: old.KickstartDir}
	write("[service]\nsteps = \"process\"\n")
	r.Reload()
	m.until("READY=1")
	if cfg := r.settings().cfg; cfg.StateDir != old.StateDir || cfg.RuntimeDir != old.RuntimeDir {
		t.Errorf("now %s and %s", cfg.StateDir, cfg.RuntimeDir)
	}
	for _, want := range []string{"state_dir stays " + old.StateDir, "runtime_dir stays " + old.RuntimeDir, "service.steps stays " + old.Service.Steps} {
		if r.logs.count("", want) != 1 {
			t.Errorf("%q is not said", want)
		}
	}
}

// A kickstart directory can be replaced by another, which is watched from then on.
func TestReloadWithOtherOverrides(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	write := r.configFile()
	r.addISO("8.0.3", "24280767")
	r.run()
	r.until("published", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
	next := filepath.Join(t.TempDir(), "other")
	if err := os.Mkdir(next, 0o750); err != nil {
		t.Fatal(err)
	}
	moved := *r.cfg
	moved.KickstartDir = next
	r.cfg = &moved
	target, path := directoryTarget(t, "t")
	write(target)
	r.f.mu.Lock()
	r.f.address = path
	r.f.mu.Unlock()
	m.drain()
	r.Reload()
	m.until("READY=1")
	r.override("8.0.cfg", "vmaccepteula\n")
	r.until("built with the new override", func(b map[string]*build.Build) bool {
		r.f.mu.Lock()
		defer r.f.mu.Unlock()
		return len(r.f.made) == 2
	})
}

// Whoever reloads has mended something: what waits need not wait any longer.
func TestReloadTriesAgainAtOnce(t *testing.T) {
	r := newRig(t, t.TempDir())
	target, path := directoryTarget(t, "t")
	r.configFile()(target)
	r.f.makeErr = func(*build.Build) error { return fmt.Errorf("full: %w", syscall.ENOSPC) }
	r.addISO("8.0.3", "24280767")
	r.run()
	r.until("it waits", func(b map[string]*build.Build) bool {
		for _, b := range b {
			return b.Attempts == 1 && time.Until(b.NotBefore) > 10*time.Second
		}
		return false
	})
	r.f.mu.Lock()
	r.f.makeErr, r.f.address = nil, path
	r.f.mu.Unlock()
	r.Reload()
	r.until("done", func(b map[string]*build.Build) bool { return states(b)[build.Done] == 1 })
}
