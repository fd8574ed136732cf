package tinylinux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// CacheDir returns the directory for what tests download or build once:
// esxid-test in $XDG_CACHE_HOME or ~/.cache.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot choose a cache directory: %w", err)
	}
	dir := filepath.Join(base, "esxid-test")
	return dir, os.MkdirAll(dir, 0o755)
}

// Package returns the directory with the files of a Debian package, which it
// downloads and unpacks into the cache the first time. The package is not
// installed.
func Package(ctx context.Context, name string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	cached := func() (string, error) {
		dirs, err := filepath.Glob(filepath.Join(cache, name+"_*"))
		if err != nil || len(dirs) == 0 {
			return "", err
		}
		return dirs[len(dirs)-1], nil
	}
	if dir, err := cached(); err != nil || dir != "" {
		return dir, err
	}
	resolve := func(context.Context) (string, error) { return name, nil }
	if err := install(ctx, cache, resolve, nil); err != nil {
		return "", fmt.Errorf("cannot get the package %s: %w", name, err)
	}
	return cached()
}

// install downloads and unpacks a package beside its final place, lets finish
// add to it, and renames it there.
func install(ctx context.Context, cache string, resolve func(context.Context) (string, error), finish func(context.Context, string) error) error {
	tmp, err := os.MkdirTemp(cache, "download-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := download(ctx, tmp, resolve); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) != 1 {
		return fmt.Errorf("apt-get download left %d packages", len(debs))
	}
	root := filepath.Join(tmp, "root")
	if _, err := run(ctx, tmp, "dpkg-deb", "-x", debs[0], root); err != nil {
		return err
	}
	if finish != nil {
		if err := finish(ctx, root); err != nil {
			return err
		}
	}
	err = os.Rename(root, filepath.Join(cache, strings.TrimSuffix(filepath.Base(debs[0]), ".deb")))
	if errors.Is(err, os.ErrExist) {
		return nil // another process was faster
	}
	return err
}

// download fetches a package into dir. Package lists that are missing, or too
// old for what they name to still be there, are renewed once.
func download(ctx context.Context, dir string, resolve func(context.Context) (string, error)) error {
	try := func() error {
		name, err := resolve(ctx)
		if err != nil {
			return err
		}
		_, err = run(ctx, dir, "apt-get", "download", name)
		return err
	}
	if try() == nil {
		return nil
	}
	if _, err := run(ctx, dir, "apt-get", "update"); err != nil {
		return err
	}
	return try()
}

// run runs a program in dir and returns its output.
func run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
