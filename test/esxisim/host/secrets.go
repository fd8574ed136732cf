package host

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Secrets returns the host's files that contain one of the texts, as paths on
// the host.
func (h *Host) Secrets(texts ...string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(h.Root(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if bytes.Contains(data, []byte(text)) {
				found = append(found, strings.TrimPrefix(path, h.Root()))
				break
			}
		}
		return nil
	})
	return found, err
}
