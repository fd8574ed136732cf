package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/kickstart"
)

// work is where a foreground build works: the directory .esxid in its output
// directory. It is removed at the end, unless there is something in it worth
// keeping; one that is there, also one a killed esxid left, is taken up.
type work struct {
	dir   string
	lock  *os.File // the output directory
	store *build.Store
	keep  bool
}

func openWork(output string) (*work, error) {
	output, err := filepath.Abs(output)
	if err != nil {
		return nil, err
	}
	w := &work{dir: filepath.Join(output, ".esxid")}
	if err := os.MkdirAll(output, 0o755); err != nil {
		return nil, fault.New(fault.CannotWrite, "cannot make the output directory: %w", err)
	}
	// The lock is on the directory that stays: a lock file in the one that is
	// removed would let two builds hold one of the same name.
	if w.lock, err = os.Open(output); err != nil {
		return nil, fault.New(fault.CannotWrite, "cannot lock the output directory: %w", err)
	}
	if err := unix.Flock(int(w.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		w.lock.Close()
		return nil, fault.New(fault.TryLater, "another esxid builds in %s: choose another --output", output)
	}
	if err := w.open(output); err != nil {
		w.lock.Close()
		return nil, err
	}
	return w, nil
}

// open makes the work directory, or takes up the one that is there.
func (w *work) open(output string) error {
	if err := os.Mkdir(w.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fault.New(fault.CannotWrite, "cannot make the work directory: %w", err)
	}
	err := private(w.dir)
	if err == nil {
		w.store, err = build.OpenStore(filepath.Join(w.dir, "builds"), output)
	}
	if err == nil {
		err = w.store.Clean()
	}
	return err
}

// private refuses a work directory that somebody else has put there, as is easy
// below /tmp: root passwords are going to be in it.
func private(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("cannot use the work directory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fault.New(fault.NotPermitted, "cannot use %s: it is not a directory that only you can write to: remove it, or choose another --output", dir)
	}
	return nil
}

// close removes the work directory.
func (w *work) close() {
	if !w.keep {
		// What cannot be removed now is taken up or removed by the next build here.
		_ = os.RemoveAll(w.dir)
	}
	w.lock.Close()
}

// build returns the record of a plan: a new one, or that of a build that was
// killed in this directory.
func (w *work) build(plan build.Plan, src kickstart.Source, isoPath string) (*build.Build, error) {
	isoPath, err := filepath.Abs(resolve(isoPath))
	if err != nil {
		return nil, err
	}
	b, err := w.store.Load(plan.ID)
	switch {
	case err == nil:
		return b, w.store.Update(b, plan, isoPath, time.Now())
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return w.store.Create(plan, src, isoPath, time.Now())
}

// failed keeps what is worth keeping of a failed build and returns the error that
// says where: what tells why an installation failed, or a finished installation
// when what came after it failed for another reason than the input.
func (w *work) failed(ctx context.Context, b *build.Build, err error) error {
	if build.Interrupted(ctx, err) {
		return err
	}
	if _, installed := b.Steps[build.StepInstall]; installed && fault.ClassOf(err) != fault.Input {
		w.keep = true
		return fmt.Errorf("%w; the finished installation stays in %s: the same command goes on from there", err, w.dir)
	}
	return errors.Join(err, w.store.SaveEvidence(b, filepath.Join(w.store.Images, b.ID()+"-failed"), err))
}
