package config

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ReadFile reads a file that a key of the configuration names, of at most limit bytes,
// and returns its mode too: whether others may read a secret is for the caller to judge.
// A FIFO in its place, for whose writer one would wait for ever, and whatever else is
// not a regular file are refused. Nothing of the content gets into an error.
func ReadFile(path string, limit int64) ([]byte, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot %w", err) // open FILE: REASON
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("cannot %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, fmt.Errorf("cannot %w", err)
	}
	if int64(len(text)) > limit {
		return nil, 0, fmt.Errorf("%s has more than %d bytes: leave only what is needed in it", path, limit)
	}
	return text, info.Mode(), nil
}
