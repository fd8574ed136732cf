package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/esxid/esxid/internal/config"
)

// loadConfig reads the configuration: the file that was asked for, else the
// system's, else the defaults.
func loadConfig(path string) (*config.Config, error) {
	if path != "" {
		return config.Load(path)
	}
	_, err := os.Stat(config.DefaultPath)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Default(), nil
	}
	return config.Load(config.DefaultPath)
}
