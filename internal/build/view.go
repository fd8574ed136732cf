package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/vm"
)

// Screenshot returns the screen of the installer of a build as PNG. If none runs the
// error's class is fault.TryLater.
func (s *Store) Screenshot(ctx context.Context, id string) ([]byte, error) {
	return vm.Screenshot(ctx, filepath.Join(s.Dir(id), installDir))
}

// OpenConsole opens the installer's log: the one of the installation that runs, else of
// the last one. A file that is open stays the right one when the installation ends.
func (s *Store) OpenConsole(id string) (*os.File, error) {
	for _, path := range []string{filepath.Join(s.Dir(id), installDir, consoleName), filepath.Join(s.Dir(id), consoleName)} {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the installer's log: %w", err)
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			f.Close()
			return nil, fmt.Errorf("cannot read the installer's log: %s is not a file", path)
		}
		return f, nil
	}
	return nil, fault.New(fault.TryLater, "build %s has no installer's log: it was not installed yet", id)
}
