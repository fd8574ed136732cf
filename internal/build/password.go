package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/kickstart"
)

// passwordFileName holds a random root password, beside the build and later
// beside the image, readable by its owner only.
const passwordFileName = "root-password"

// maxPasswordFile bounds root_password.file, in bytes.
const maxPasswordFile = 4096

// configuredPassword returns the hash or the password from the configuration
// and which of the sources it is. Both are empty secrets when none is set.
func configuredPassword(cfg *config.Config) (secret, source string, err error) {
	r := cfg.RootPassword
	switch {
	case r.Hash != "":
		return r.Hash, passwordConfigured, nil
	case r.File == "":
		return "", passwordRandom, nil
	}
	bad := func(format string, args ...any) error {
		return fault.New(fault.Config, "%s: %w", cfg.Place("root_password", "file"), fmt.Errorf(format, args...))
	}
	text, mode, err := config.ReadFile(r.File, maxPasswordFile)
	if err != nil {
		return "", "", bad("%w", err)
	}
	if mode.Perm()&0o007 != 0 {
		return "", "", bad("%s is open to every user: chmod 0640 %s", r.File, r.File)
	}
	secret = strings.TrimRight(string(text), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
		return "", "", bad("want one line with a password or a $6$ hash in %s", r.File)
	}
	return secret, passwordFile, nil
}

// passwordHash returns the hash the installer gets. A random password is made
// once per build: an interrupted step finds it again.
func passwordHash(cfg *config.Config, dir string) (string, error) {
	secret, source, err := configuredPassword(cfg)
	if err != nil {
		return "", err
	}
	if source == passwordRandom {
		secret, err = randomPassword(filepath.Join(dir, passwordFileName))
		if err != nil {
			return "", err
		}
	}
	if config.CryptSHA512.MatchString(secret) {
		return secret, nil
	}
	hash, err := kickstart.HashPassword([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("cannot hash the root password: %w", err)
	}
	return hash, nil
}

func randomPassword(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return string(bytes.TrimSpace(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot read the build's root password: %w", err)
	}
	secret, err := kickstart.RandomPassword()
	if err != nil {
		return "", fmt.Errorf("cannot make a root password: %w", err)
	}
	return secret, durable.WriteFile(path, []byte(secret+"\n"), 0o600)
}
