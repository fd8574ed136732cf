package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/config"
)

// directories checks that what the service must write can be written, and that what
// must be private is.
func directories(service account, cfg *config.Config) []Finding {
	var out []Finding
	for _, d := range []struct {
		path    string
		write   bool
		private bool
	}{
		{cfg.StateDir, true, false},
		{filepath.Join(cfg.StateDir, "incoming"), true, false},
		{filepath.Join(cfg.StateDir, "rejected"), true, false},
		{filepath.Join(cfg.StateDir, "isos"), true, false},
		{filepath.Join(cfg.StateDir, "builds"), true, true},
		{filepath.Join(cfg.StateDir, "images"), true, true},
		{cfg.KickstartDir, false, false},
	} {
		out = append(out, directory(service, d.path, d.write, d.private))
	}
	return out
}

func directory(service account, path string, write, private bool) Finding {
	f := Finding{Check: path, Level: OK, Detail: "can be used"}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(service, path)
	case errors.Is(err, fs.ErrPermission) && !service.self:
		f.Level, f.Detail = Unknown, fmt.Sprintf("%v; %s", err, asRoot)
		return f
	case err != nil:
		f.Level, f.Detail = Problem, err.Error()
		return f
	case !info.IsDir():
		f.Level, f.Detail = Problem, "is not a directory: move it away"
		return f
	}
	mode, repair := uint32(unix.R_OK|unix.X_OK), fmt.Sprintf("chgrp %s %s; chmod 0750 %[2]s", service.group, path)
	if write {
		mode, repair = mode|unix.W_OK, fmt.Sprintf("chown %s:%s %s; chmod u+rwx %[3]s", service.name, service.group, path)
	}
	if err := service.may(path, mode); err != nil {
		f.Level, f.Detail = levelOf(err), fmt.Sprintf("%v: %s", err, repair)
	} else if private && info.Mode().Perm()&0o007 != 0 {
		f.Level, f.Detail = Warning, fmt.Sprintf("is open to every user (%v): chmod o= %s", info.Mode().Perm(), path)
	}
	return f
}

// missing judges a directory that the service makes when it starts, if it may.
func missing(service account, path string) Finding {
	parent := filepath.Dir(path)
	for parent != filepath.Dir(parent) {
		if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		parent = filepath.Dir(parent)
	}
	if err := service.may(parent, unix.W_OK|unix.X_OK); err != nil {
		return Finding{path, levelOf(err), fmt.Sprintf("is not there, and the service cannot make it: install -d -o %s -g %s -m 0750 %s", service.name, service.group, path)}
	}
	return Finding{path, Warning, "is not there yet: the service makes it when it starts"}
}

// maxListed bounds how many files of incoming are looked at.
const maxListed = 1000

// incoming reports ISOs that wait there because the service cannot read them.
func incoming(service account, stateDir string) []Finding {
	dir := filepath.Join(stateDir, "incoming")
	d, err := os.Open(dir)
	if err != nil {
		return nil // directories has said so
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxListed)
	var out []Finding
	for _, name := range names {
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || !strings.EqualFold(filepath.Ext(name), ".iso") {
			continue // the service says what it thinks of others
		}
		if err := service.mayRead(path); err != nil {
			out = append(out, Finding{path, levelOf(err), fmt.Sprintf("%v: chmod a+r %s", err, path)})
		}
	}
	return out
}
