package tinylinux

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// Build compiles a package of this module ("./test/tinylinux/runner", relative
// to the module's root) into a static program, fit for /init. The go command
// caches the work.
func Build(ctx context.Context, pkg string) ([]byte, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tinylinux-build-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	_, err = run(ctx, root, "env", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=",
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// moduleRoot finds the sources: where this file was compiled, or above the
// working directory for a program built with -trimpath.
func moduleRoot() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	if dir := filepath.Join(filepath.Dir(file), "..", ".."); isModule(dir) {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if isModule(dir) {
			return dir, nil
		}
	}
	return "", errors.New("cannot find esxid's sources: run this inside them")
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "test", "tinylinux", "runner"))
	return filepath.IsAbs(dir) && err == nil
}
