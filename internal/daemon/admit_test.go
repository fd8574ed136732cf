package daemon

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/watch"
)

// prepared is a rig whose directories are there and which does not run.
func prepared(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, t.TempDir())
	unlock, err := r.prepare()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	return r
}

// What the watch refuses is moved as it is, links unresolved and directories
// with their content, with a reason that says what to do.
func TestRefusedIsMovedAway(t *testing.T) {
	precious := filepath.Join(t.TempDir(), "precious.iso")
	if err := os.WriteFile(precious, []byte("elsewhere"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		make func(path string) error
		kind fs.FileMode
	}{
		{"symlink", func(p string) error { return os.Symlink(precious, p) }, fs.ModeSymlink},
		{"dangling symlink", func(p string) error { return os.Symlink("nowhere", p) }, fs.ModeSymlink},
		{"FIFO", func(p string) error { return unix.Mkfifo(p, 0o644) }, fs.ModeNamedPipe},
		{"socket", func(p string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, fs.ModeSocket},
		{"directory", func(p string) error {
			if err := os.Mkdir(p, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(p, "inside"), []byte("text"), 0o600)
		}, fs.ModeDir},
		{"empty file", func(p string) error { return os.WriteFile(p, nil, 0o600) }, 0},
		{"file without permission", func(p string) error { return os.WriteFile(p, []byte("text"), 0) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := prepared(t)
			path := filepath.Join(r.incoming(), "x.iso")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			r.onISO(t.Context(), watch.Event{Kind: watch.Refused, Path: path, Reason: "is no good: do better"})
			if left := names(t, r.incoming()); left != "" {
				t.Errorf("left in incoming: %s", left)
			}
			if got := names(t, r.rejected()); got != "x.iso x.iso.reason" {
				t.Errorf("rejected holds %q", got)
			}
			moved := filepath.Join(r.rejected(), "x.iso")
			after, err := os.Lstat(moved)
			if err != nil || after.Mode() != before.Mode() || after.Mode().Type() != tt.kind || !os.SameFile(before, after) {
				t.Errorf("it is something else now: %v, %v", after, err)
			}
			if tt.kind == fs.ModeDir && names(t, moved) != "inside" {
				t.Errorf("the directory holds %q", names(t, moved))
			}
			checkReason(t, moved, path+" is no good: do better")
		})
	}
	if text, err := os.ReadFile(precious); err != nil || string(text) != "elsewhere" {
		t.Errorf("what the link points to is now %q, %v", text, err)
	}
}

// checkReason looks at the file beside a rejected one.
func checkReason(t *testing.T, moved, want string) {
	t.Helper()
	text, err := os.ReadFile(moved + ".reason")
	if err != nil || !strings.HasPrefix(string(text), want) || !strings.Contains(string(text), "The file is untouched: "+moved) {
		t.Errorf("reason = %q, %v; want %q first", text, err, want)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// What the watch takes for complete and identification refuses.
func TestNotAnInstaller(t *testing.T) {
	other, err := iso.Single("DEBIAN", "README.TXT", []byte("another system"))
	if err != nil {
		t.Fatal(err)
	}
	r := prepared(t)
	for name, tt := range map[string]struct{ text, want string }{
		"noise.iso":  {strings.Repeat("noise", 10_000), "not an ISO 9660 image"},
		"page.iso":   {"<!DOCTYPE html>", "it is a web page"},
		"debian.iso": {string(other), "it is not an ESXi installer"},
		"cut.iso":    {string(other[:40_000]), "again"},
	} {
		path := filepath.Join(r.incoming(), name)
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.onISO(t.Context(), watch.Event{Kind: watch.Complete, Path: path})
		moved := filepath.Join(r.rejected(), name)
		if text, err := os.ReadFile(moved); err != nil || string(text) != tt.text {
			t.Errorf("%s was lost: %v", name, err)
		}
		reason, err := os.ReadFile(moved + ".reason")
		if err != nil || !strings.Contains(string(reason), tt.want) || !strings.Contains(string(reason), path) {
			t.Errorf("%s: reason = %q, %v; want %q", name, reason, err, tt.want)
		}
	}
	if left := names(t, r.incoming()); left != "" {
		t.Errorf("left in incoming: %s", left)
	}
}

// A file that is gone when its turn comes was taken away by its owner.
func TestGoneBeforeItsTurn(t *testing.T) {
	r := prepared(t)
	r.onISO(t.Context(), watch.Event{Kind: watch.Complete, Path: filepath.Join(r.incoming(), "x.iso")})
	if got := names(t, r.rejected()); got != "" {
		t.Errorf("rejected holds %q", got)
	}
}

// A full disk keeps a file from being moved: it stays, and the next time it is
// told of it goes.
func TestNoRoomForTheReason(t *testing.T) {
	r := prepared(t)
	if err := unix.Mount("tmpfs", r.rejected(), "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("cannot mount a small tmpfs (tests run as root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(r.rejected(), unix.MNT_DETACH) })
	filler := filepath.Join(r.rejected(), "filler")
	_ = os.WriteFile(filler, make([]byte, 1<<20), 0o600) // as much as there is room for
	path := filepath.Join(r.incoming(), "x.iso")
	if err := os.WriteFile(path, []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.onISO(t.Context(), watch.Event{Kind: watch.Complete, Path: path})
	if text, err := os.ReadFile(path); err != nil || string(text) != "noise" {
		t.Errorf("the file is now %q, %v", text, err)
	}
	if got := names(t, r.rejected()); got != "filler" {
		t.Errorf("rejected holds %q", got)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r.onISO(t.Context(), watch.Event{Kind: watch.Complete, Path: path})
	if got := names(t, r.rejected()) + " and " + names(t, r.incoming()); got != "x.iso x.iso.reason and " {
		t.Errorf("rejected and incoming hold %q", got)
	}
}

// An ISO that is dropped again gives its build another try, as if nothing had been;
// what failed before an override was changed stays for whoever looks into it.
func TestDroppedAgain(t *testing.T) {
	r := prepared(t)
	const sum = "5"
	for _, id := range []string{"8.0.3-1-00000000", "8.0.3-1-11111111"} {
		b := &build.Build{Plan: build.Plan{ID: id}, State: build.Failed, Error: &build.ErrorRecord{Message: "cancelled by alice", Cancelled: true}}
		b.Plan.ISO.SHA256 = sum
		r.builds[id] = b
		if err := os.Mkdir(r.store.Dir(id), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	r.current[sum] = "8.0.3-1-11111111"
	r.retryFailed(sum)
	if b := r.builds["8.0.3-1-11111111"]; b.State != build.Queued || b.Error != nil {
		t.Errorf("its build is %s: %+v", b.State, b.Error)
	}
	if b := r.builds["8.0.3-1-00000000"]; b.State != build.Failed || b.Error == nil {
		t.Errorf("its build before is %s: %+v", b.State, b.Error)
	}
	delete(r.current, sum) // the ISO was gone
	r.retryFailed(sum)
	if b := r.builds["8.0.3-1-00000000"]; b.State != build.Queued {
		t.Errorf("the build of an ISO that was gone is %s", b.State)
	}
}
