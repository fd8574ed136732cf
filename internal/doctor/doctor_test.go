package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

type publisher struct{ err error }

func (publisher) Name() string                  { return "prod" }
func (publisher) Address() string               { return "here" }
func (p publisher) Check(context.Context) error { return p.err }
func (publisher) Publish(context.Context, publish.Image, func(done, total int64)) (publish.Result, error) {
	return publish.Result{}, errors.New("doctor must not publish")
}

// someone is the user of a service on this host who owns nothing here.
var someone = account{name: "esxid", group: "esxid", uid: 54321, gids: []int{54321}, installed: true}

// openDir is a temporary directory that every user may look into.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // testing keeps others out
		t.Fatal(err)
	}
	return dir
}

func checkFinding(t *testing.T, got Finding, level Level, detail string) {
	t.Helper()
	if got.Level != level || !strings.Contains(got.Detail, detail) {
		t.Errorf("got %+v, want %s with %q", got, level, detail)
	}
}

func TestMemory(t *testing.T) {
	const gib4, gib6, gib16 = "MemAvailable:   4194304 kB\n", "MemAvailable:   6291456 kB\n", "MemTotal: 99 kB\nMemAvailable:   16777216 kB\n"
	small, large := config.Profile{MemoryMiB: 4096}, config.Profile{MemoryMiB: 32768}
	tests := []struct {
		name, text string
		profiles   map[string]config.Profile
		want       Level
		detail     string
	}{
		{"enough", gib16, nil, OK, "16384 MiB available"},
		{"for 6.x", gib6, nil, Warning, "enough for 6.5, 6.7, but 7.0 needs 9216 MiB, 8.0 needs 9216 MiB, 9.0 needs 9216 MiB: free some"},
		{"too little", gib4, nil, Problem, "no version can be installed: 6.5 needs 5120 MiB, 6.7 needs"},
		{"unknown", "MemTotal: 99 kB\n", nil, Warning, "does not say"},
		{"for all as they are configured", gib6, map[string]config.Profile{"7": small, "8.0": small, "9": small}, OK, "6144 MiB available"},
		{"for all but one", gib6, map[string]config.Profile{"7": small, "8.0": small}, Warning, "enough for 6.5, 6.7, 7.0, 8.0, but 9.0 needs 9216 MiB"},
		{"one is configured large", gib16, map[string]config.Profile{"8.0.3": large}, Warning, "enough for 6.5, 6.7, 7.0, 8.0, 9.0, but 8.0.3 needs 33792 MiB"},
		{"all of 6 are configured large", gib16, map[string]config.Profile{"6": large}, Warning, "enough for 7.0, 8.0, 9.0, but 6.5 needs 33792 MiB, 6.7 needs 33792 MiB:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "meminfo")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := config.Default()
			cfg.VM.Profile = tt.profiles
			checkFinding(t, memory(path, cfg), tt.want, tt.detail)
		})
	}
}

// The rights of another user than ours, by owners and modes.
func TestAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test gives files away: run it as root")
	}
	group := someone
	group.uid = 54322
	other := account{name: "other", uid: 54323}
	tests := []struct {
		name   string
		a      account
		mode   fs.FileMode // of a file that belongs to someone
		parent fs.FileMode
		want   bool
	}{
		{"owner", someone, 0o400, 0o755, true},
		{"owner, whom the mode keeps out", someone, 0o044, 0o755, false},
		{"group", group, 0o040, 0o755, true},
		{"group, whom the mode keeps out", group, 0o404, 0o755, false},
		{"other", other, 0o004, 0o755, true},
		{"other, whom the mode keeps out", other, 0o440, 0o755, false},
		{"a closed directory above", other, 0o444, 0o750, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(openDir(t), "above")
			path := filepath.Join(dir, "file")
			for _, err := range []error{
				os.Mkdir(dir, 0o755), os.WriteFile(path, nil, 0o600), os.Chown(path, someone.uid, someone.gids[0]), os.Chmod(path, tt.mode), os.Chmod(dir, tt.parent),
				os.Symlink(path, dir+"-link"),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range []string{path, dir + "-link"} {
				if err := tt.a.mayRead(p); (err == nil) != tt.want {
					t.Errorf("%s: err = %v", p, err)
				}
			}
		})
	}
	if err := someone.mayRead(filepath.Join(openDir(t), "none")); !errors.Is(err, fs.ErrNotExist) || levelOf(err) != Problem {
		t.Errorf("missing: %v", err)
	}
}

func TestDirectory(t *testing.T) {
	dir := openDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		service    account
		want       Level
		detail     string
	}{
		{"good", dir, serviceUser(), OK, "can be used"},
		{"missing", filepath.Join(dir, "none"), serviceUser(), Warning, "the service makes it"},
		{"missing, and cannot be made", filepath.Join(dir, "none", "none"), someone, Problem, "install -d -o esxid -g esxid -m 0750 " + dir},
		{"a file", file, serviceUser(), Problem, "not a directory"},
		{"open to all", open, serviceUser(), Warning, "chmod o="},
		{"somebody else's", open, someone, Problem, "chown esxid:esxid " + open},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkFinding(t, directory(tt.service, tt.path, true, tt.name == "open to all"), tt.want, tt.detail)
		})
	}
	checkFinding(t, directory(someone, open, false, false), OK, "can be used")
}

func TestUnreadableISO(t *testing.T) {
	state := openDir(t)
	dir := filepath.Join(state, "incoming")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"good.iso": 0o644, "private.iso": 0o600, "private.txt": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	got := incoming(someone, state)
	if len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	path := filepath.Join(dir, "private.iso")
	checkFinding(t, got[0], Problem, "permission denied")
	checkFinding(t, got[0], Problem, "chmod a+r "+path)
}

func TestAccel(t *testing.T) {
	ours := filepath.Join(openDir(t), "kvm")
	if err := os.WriteFile(ours, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	usable := filepath.Join(openDir(t), "kvm")
	if err := os.WriteFile(usable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(usable, 0o666); err != nil {
		t.Fatal(err)
	}
	foreground := account{name: "me", self: true}
	denied := fault.New(fault.NotPermitted, "cannot use KVM: %w: usermod -aG kvm", fs.ErrPermission)
	tests := []struct {
		name          string
		service       account
		device        string
		mine          bool
		resolved, why string
		err           error
		want          Level
		detail        string
	}{
		{"good", foreground, ours, true, "kvm", "", nil, OK, "KVM starts a guest"},
		{"no KVM", foreground, ours, true, "", "", fault.New(fault.Unavailable, "there is no /dev/kvm: switch virtualization on"), Problem, "switch virtualization on"},
		{"runs no guests", foreground, ours, true, "", "", fault.New(fault.Unavailable, "a guest executed nothing within 10s"), Problem, "executed nothing"},
		{"auto without KVM", foreground, ours, true, "tcg", "there is no /dev/kvm", nil, Warning, "there is no /dev/kvm"},
		{"tcg", foreground, ours, true, "tcg", "", nil, Warning, "take hours"},
		{"not ours, no service", foreground, ours, true, "", "", denied, Problem, "usermod -aG kvm"},
		{"not ours, but the service's", someone, usable, false, "", "", denied, Unknown, "sudo esxid doctor"},
		{"auto, not ours", someone, usable, false, "tcg", "cannot use KVM: permission denied", nil, Unknown, "sudo esxid doctor"},
		{"not ours, and not the service's", someone, ours, false, "", "", denied, Problem, "chgrp kvm " + ours},
		{"root's only", someone, ours, true, "kvm", "", nil, Problem, "chmod 0660 " + ours},
		{"seen by root", someone, usable, true, "kvm", "", nil, OK, "KVM starts a guest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkFinding(t, judgeAccel(tt.service, tt.device, tt.mine, tt.resolved, tt.why, tt.err), tt.want, tt.detail)
		})
	}
}

func TestNBD(t *testing.T) {
	denied := fault.New(fault.NotPermitted, "cannot use nbd devices without CAP_SYS_ADMIN")
	none := fault.New(fault.Unavailable, "no module")
	tests := []struct {
		name   string
		root   bool
		access string
		err    error
		module bool
		want   Level
		detail string
	}{
		{"good", true, "nbd", nil, true, OK, "can be used"},
		{"no module", true, "nbd", none, false, Problem, "the kernel 6.1.0 has no module nbd: install"},
		{"no module, as a user", false, "nbd", denied, false, Problem, "has no module nbd"},
		{"no module, which is no trouble", true, "auto", none, false, OK, "edited directly: the kernel 6.1.0 has no module nbd"},
		{"who knows", false, "nbd", denied, true, Unknown, "sudo esxid doctor"},
		{"all in use", true, "nbd", fault.New(fault.TryLater, "all 16 are in use"), true, Problem, "all 16 are in use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkFinding(t, judgeNBD(someone, tt.root, tt.access, tt.err, tt.module, "6.1.0"), tt.want, tt.detail)
		})
	}
}

func TestHasModule(t *testing.T) {
	tests := []struct {
		name, file, text string
		want             bool
	}{
		{"loaded", "sys/module/nbd/refcnt", "0\n", true},
		{"on the disk", "lib/modules/6.1.0/modules.dep", "kernel/fs/ext4.ko:\nkernel/drivers/block/nbd.ko.xz:\n", true},
		{"built in", "lib/modules/6.1.0/modules.builtin", "kernel/drivers/block/nbd.ko\n", true},
		{"another kernel's", "lib/modules/5.10.0/modules.dep", "kernel/drivers/block/nbd.ko:\n", false},
		{"another module", "lib/modules/6.1.0/modules.dep", "kernel/drivers/block/nbdx.ko: kernel/nbd/y.ko\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, tt.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := hasModule(root, "6.1.0", "nbd"); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	key := filepath.Join(openDir(t), "key")
	if err := os.WriteFile(key, []byte("a:b:c"), 0o600); err != nil {
		t.Fatal(err)
	}
	private := openDir(t)
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	self := account{name: "me", self: true}
	tests := []struct {
		name    string
		service account
		target  config.Target
		err     error
		want    Level
		detail  string
	}{
		{"good", self, config.Target{Type: "maas", APIKeyFile: key}, nil, OK, "can be published to"},
		{"wrong key", self, config.Target{Type: "maas", APIKeyFile: key}, fault.New(fault.NotPermitted, "refuses the API key"), Problem, "refuses the API key"},
		{"a key the service cannot read", someone, config.Target{Type: "maas", APIKeyFile: key}, nil, Problem, "chgrp esxid " + key},
		{"a CA the service cannot read", someone, config.Target{Type: "maas", CAFile: key}, nil, Problem, "chgrp esxid " + key},
		{"a directory the service cannot write", someone, config.Target{Type: "directory", Path: private}, nil, Problem, "chgrp esxid " + private},
		{"a directory that is missing", someone, config.Target{Type: "directory", Path: "/proc/none"}, errors.New("does not exist: create it"), Problem, "create it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			made := func(*config.Config) ([]publish.Publisher, error) {
				return []publish.Publisher{publisher{tt.err}}, nil
			}
			checkFinding(t, target(t.Context(), tt.service, tt.target, made), tt.want, tt.detail)
		})
	}
	none := publishing(t.Context(), self, Subject{Config: config.Default()})
	if len(none) != 1 {
		t.Fatalf("got %+v", none)
	}
	checkFinding(t, none[0], Warning, "systemctl reload esxid")
}

// A user who may not read the configuration gets to know what can be known.
func TestConfiguration(t *testing.T) {
	private := filepath.Join(openDir(t), "esxid.toml")
	if err := os.WriteFile(private, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	withPassword := config.Default()
	withPassword.RootPassword.File = "/nonexistent/password"
	self := account{name: "me", self: true}
	tests := []struct {
		name    string
		service account
		s       Subject
		want    Level
		detail  string
	}{
		{"good", self, Subject{Config: config.Default(), Path: private}, OK, private},
		{"none", self, Subject{Config: config.Default()}, OK, "every key has its default"},
		{"unread", someone, Subject{Config: config.Default(), Unread: fmt.Errorf("cannot read: %w", fs.ErrPermission)}, Unknown, "sudo esxid doctor"},
		{"not the service's", someone, Subject{Config: config.Default(), Path: private}, Problem, "chgrp esxid " + private + "; chmod 0640 " + private},
		{"no password file", self, Subject{Config: withPassword, Path: private}, Problem, "correct root_password.file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkFinding(t, configuration(tt.service, tt.s), tt.want, tt.detail) })
	}
}

func TestMissingToolsSayWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	cfg := config.Default()
	cfg.Image.Access = "nbd"
	for _, f := range tools(t.Context(), cfg) {
		checkFinding(t, f, Problem, "apt install")
	}
}
