//go:build system

package system

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esxid/esxid/test/debianvm"
	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/tinylinux"
)

var (
	debFlag = flag.String("deb", "", "the package to test; without it, make deb makes one")
	outFlag = flag.String("out", "../../build/system-test", "directory for the transcript and what else people may read")
)

// Build numbers of the simulated ISOs. Each is of another boot resource name.
const (
	build80 = "24677879"
	build70 = "19482537"
	build67 = "8169922"
)

// parts are the files the machine gets.
type parts struct {
	deb, newer string // the package, and the same with a higher version
	rig        string
	iso        map[string]string // by build number
	image      *debianvm.Image
}

// payload is how the machine sees them: below /payload.
func (p parts) payload() map[string]string {
	files := map[string]string{"esxid.deb": p.deb, "esxid-newer.deb": p.newer, "rig": p.rig}
	for number, path := range p.iso {
		files[number+".iso"] = path
	}
	return files
}

// makeParts makes all of them, side by side as far as that is quicker.
func makeParts(t *testing.T, dir string) parts {
	t.Helper()
	p := parts{rig: filepath.Join(dir, "rig"), newer: filepath.Join(dir, "newer.deb"), iso: map[string]string{}}
	var wg sync.WaitGroup
	begin := func(what string, do func(context.Context) error) {
		wg.Go(func() {
			began := time.Now()
			err := do(t.Context())
			t.Logf("%s: %.0f s", what, time.Since(began).Seconds())
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	begin("disk of a Debian machine", func(ctx context.Context) (err error) {
		p.image, err = debianvm.Find(ctx)
		return err
	})
	begin("Debian package", func(ctx context.Context) (err error) {
		if p.deb, err = makeDeb(ctx); err != nil {
			return err
		}
		return makeNewer(ctx, p.deb, p.newer)
	})
	releases := map[string]string{build80: "8.0U3e", build70: "7.0.3", build67: "6.7"}
	for number := range releases {
		p.iso[number] = filepath.Join(dir, number+".iso")
	}
	begin("rig and ISOs", func(ctx context.Context) error {
		rig, err := tinylinux.Build(ctx, "./test/rig")
		if err == nil {
			err = os.WriteFile(p.rig, rig, 0o755)
		}
		for number, version := range releases {
			if err == nil {
				err = esxisim.BuildISO(ctx, esxisim.Options{Version: version, Build: number, PayloadMiB: 8}, p.iso[number])
			}
		}
		return err
	})
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return p
}

func makeDeb(ctx context.Context) (string, error) {
	if *debFlag != "" {
		return *debFlag, nil
	}
	out, err := output(ctx, "make", "--no-print-directory", "-C", "../..", "deb")
	if err != nil {
		return "", err
	}
	lines := strings.Fields(out)
	if len(lines) == 0 || !strings.HasSuffix(lines[len(lines)-1], ".deb") {
		return "", fmt.Errorf("make deb does not end with the package's path: %q", out)
	}
	return filepath.Join("../..", lines[len(lines)-1]), nil
}

// makeNewer makes the same package with a higher version.
func makeNewer(ctx context.Context, deb, newer string) error {
	tree, err := os.MkdirTemp("", "esxid-newer-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	root := filepath.Join(tree, "root")
	control := filepath.Join(root, "DEBIAN/control")
	_, err = output(ctx, "dpkg-deb", "--raw-extract", deb, root)
	if err == nil {
		_, err = output(ctx, "sed", "-i", "/^Version:/s/$/+newer/", control)
	}
	if err == nil {
		_, err = output(ctx, "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", root, newer)
	}
	return err
}

// output runs a program and returns what it prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), errors.Join(fmt.Errorf("%s: %w", name, err), errors.New(stderr.String()))
	}
	return stdout.String(), nil
}
