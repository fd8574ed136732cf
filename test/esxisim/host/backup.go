package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// storeFile keeps the simulator's own record in state.tgz, where ESXi 7.0 and
// later have their ConfigStore.
const storeFile = "etc/vmware/configstore.json"

// Save writes /etc and the configuration to the boot bank, as state.tgz: a
// compressed tar with a compressed tar in it.
func (m *Machine) Save() error {
	s := *m.State
	s.Unsaved = false
	record, err := json.Marshal(settings(s))
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.Path(storeFile), record, 0o600); err != nil {
		return err
	}
	files := map[string][]byte{}
	err = filepath.WalkDir(m.Path("etc"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files[strings.TrimPrefix(path, filepath.Clean(m.Root)+"/")], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return err
	}
	local, err := pack(files)
	if err != nil {
		return err
	}
	state, err := pack(map[string][]byte{"local.tgz": local})
	if err != nil {
		return err
	}
	path := m.Path("bootbank/state.tgz")
	if err := os.WriteFile(path+".new", state, 0o600); err != nil {
		return err
	}
	m.State.Unsaved = false
	return os.Rename(path+".new", path)
}

func pack(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	for name, data := range files {
		if err := t.WriteHeader(&tar.Header{Format: tar.FormatGNU, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := t.Write(data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// unpack writes the files of a compressed tar below the root, and those of a
// compressed tar in it that is called local.tgz.
func (h *Host) unpack(archive io.Reader) error {
	z, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	for t := tar.NewReader(z); ; {
		f, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Name == "local.tgz" {
			if err := h.unpack(t); err != nil {
				return err
			}
			continue
		}
		if f.Typeflag != tar.TypeReg {
			continue
		}
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("%s is outside of the root", f.Name)
		}
		data, err := io.ReadAll(io.LimitReader(t, 64<<20))
		if err != nil {
			return err
		}
		path := h.Path(f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, f.FileInfo().Mode().Perm()|0o600); err != nil {
			return err
		}
	}
}

// Restore unpacks one of the boot bank's archives over the host's files, as the
// boot loader does with the modules of boot.cfg, and takes over what it says
// about the configuration.
func (h *Host) Restore(path string) error {
	archive, err := os.Open(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := h.unpack(archive); err != nil {
		return fmt.Errorf("cannot unpack %s: %w", path, err)
	}
	text, err := os.ReadFile(h.Path(storeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h.adopt()
	}
	if err != nil {
		return err
	}
	var saved State
	if err := json.Unmarshal(text, &saved); err != nil {
		return err
	}
	return h.Change(func(m *Machine) {
		saved.Disks, saved.Volumes = m.State.Disks, m.State.Volumes
		*m.State = saved
	})
}

// adopt takes over what the installer wrote to esx.conf.
func (h *Host) adopt() error {
	text, err := os.ReadFile(h.Path("/etc/vmware/esx.conf"))
	if err != nil {
		return err
	}
	return h.Change(func(m *Machine) {
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
			switch value = strings.Trim(value, `"`); key {
			case "/system/uuid":
				m.State.UUID = value
			case "/net/vmkernelnic/child[0000]/mac":
				m.State.Interfaces[0].MAC = value
			}
		}
	})
}
