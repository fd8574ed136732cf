// Package packaging tests what the package's scripts do to a file system.
package packaging

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// purge runs the script on the root directory, and returns the paths that are left.
func purge(t *testing.T, root string) string {
	t.Helper()
	cmd := exec.Command("sh", "debian/esxid.postrm", "purge")
	cmd.Env = append(os.Environ(), "DPKG_ROOT="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("purge: %v\n%s", err, out)
	}
	var left []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			left = append(left, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(left, " ")
}

func fill(t *testing.T, root string, files ...string) {
	t.Helper()
	for _, name := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Only finished images stay.
func TestPurge(t *testing.T) {
	root := t.TempDir()
	const state = "var/lib/esxid/"
	fill(t, root, "etc/esxid/maas.key", "etc/esxid/kickstart.d/8.0.cfg", "run/esxid/x",
		state+"fingerprint.key", state+"builds/a/disk.raw", state+"isos/a.iso", state+"images/half/image.dd.gz", state+"images/.new-1/manifest",
		state+"images/done-1/manifest.json", state+"images/done-1/image.dd.gz")
	if got, want := purge(t, root), state+"images/done-1/image.dd.gz "+state+"images/done-1/manifest.json"; got != want {
		t.Errorf("left: %s\nwant: %s", got, want)
	}
	if got := purge(t, t.TempDir()); got != "" {
		t.Errorf("nothing was there, now: %s", got)
	}
}

// Purging is root's work in a directory that is the user esxid's: what that points
// to stays.
func TestPurgeFollowsNoLink(t *testing.T) {
	root := t.TempDir()
	fill(t, root, "home/alice/letter", "var/lib/esxid/isos/a.iso")
	for _, link := range []string{"images", "builds"} {
		if err := os.Symlink(filepath.Join(root, "home"), filepath.Join(root, "var/lib/esxid", link)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := purge(t, root), "home/alice/letter var/lib/esxid/images"; got != want {
		t.Errorf("left: %s\nwant: %s", got, want)
	}
}
