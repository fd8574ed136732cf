package build

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/image"
)

// verify reads the packed image back and, if it is what it should be, puts it
// with its manifest where finished images are.
func (s *step) verify(ctx context.Context) (string, error) {
	plan, record := s.build.Plan, s.build.Image
	if record == nil {
		return "", fmt.Errorf("the record of build %s has no image", s.build.ID())
	}
	m := &Manifest{
		Format: manifestFormat, File: ImageName(plan), Name: plan.Name, Title: plan.Title,
		Architecture: architecture, Filetype: filetype,
		SHA256: record.SHA256, PackedSize: record.PackedSize, RawSize: record.RawSize,
		ISO: plan.ISO, Kickstart: plan.Kickstart, Build: s.build.ID(), Layout: plan.Profile.Layout,
		Payload: image.Sums(payload(guestSettings(plan.Unsupported, plan.VCenterCA))), Esxid: s.Version,
		Created: time.Now().UTC().Truncate(time.Second),
	}
	want, err := m.expectation()
	if err != nil {
		return "", err
	}
	packed := filepath.Join(s.dir, imageName)
	if m.Checks, err = image.Verify(ctx, packed, want, s.progress); err != nil {
		return "", err
	}
	if err := s.place(m, packed); err != nil {
		return "", fmt.Errorf("cannot place the finished image: %w", err)
	}
	return fmt.Sprintf("%d checks passed", len(m.Checks)), nil
}

// place makes the image's directory and swaps it in as a whole.
func (s *step) place(m *Manifest, packed string) error {
	tmp, err := os.MkdirTemp(s.Store.Images, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o750); err != nil {
		return err
	}
	// The same file under a second name: the build keeps its output, nothing is copied.
	if err := os.Link(packed, filepath.Join(tmp, m.File)); err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if err := durable.WriteFile(filepath.Join(tmp, ManifestName), text, 0o640); err != nil {
		return err
	}
	sums := fmt.Sprintf("%s  %s\n%x  %s\n", m.SHA256, m.File, sha256.Sum256(text), ManifestName)
	if err := durable.WriteFile(filepath.Join(tmp, "SHA256SUMS"), []byte(sums), 0o640); err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(s.dir, passwordFileName))
	switch {
	case err == nil:
		err = durable.WriteFile(filepath.Join(tmp, passwordFileName), password, 0o600)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return err
	}
	return swapIn(tmp, s.Store.ImageDir(s.build.Plan))
}

// swapIn puts the directory from at to. A directory that was there changes
// places with it, so that there is no moment without an image.
func swapIn(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// dirName is the directory of an image: its name and build, without the slash.
func dirName(name, build string) string {
	return strings.ReplaceAll(name, "/", "-") + "-" + build
}
