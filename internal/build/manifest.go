package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/publish"
)

// ManifestName is the file beside an image that says what it is and that it
// was verified. An image without one cannot be published.
const ManifestName = "manifest.json"

// Facts of every image: what MAAS calls its architecture and its file type.
const (
	architecture = "amd64/generic"
	filetype     = "ddgz"
)

const manifestFormat = 1

// maxManifest bounds the size of a manifest that is read, in bytes.
const maxManifest = 1 << 20

// Manifest describes a verified image.
type Manifest struct {
	Format       int             `json:"format"`
	File         string          `json:"file"` // name of the image, in the same directory
	Name         string          `json:"name"`
	Title        string          `json:"title"`
	Architecture string          `json:"architecture"`
	Filetype     string          `json:"filetype"`
	SHA256       string          `json:"sha256"`
	PackedSize   int64           `json:"packed_size"`
	RawSize      int64           `json:"raw_size"`
	ISO          iso.Info        `json:"iso"`
	Kickstart    []string        `json:"kickstart"`
	Build        string          `json:"build"`   // build id
	Layout       string          `json:"layout"`  // partition layout of profiles.toml
	Payload      []image.FileSum `json:"payload"` // all that is below /curtin in the ESP
	Checks       []image.Check   `json:"checks"`
	Esxid        string          `json:"esxid"` // version that built it
	Created      time.Time       `json:"created"`
}

// ReadManifest reads and checks the manifest beside an image.
func ReadManifest(imagePath string) (*Manifest, error) {
	path := filepath.Join(filepath.Dir(imagePath), ManifestName)
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Input, "cannot read the image's manifest: %w: only images esxid has verified have one", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	m := &Manifest{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(m); err != nil || len(text) > maxManifest {
		return nil, fault.New(fault.Input, "%s is damaged: %w", path, err)
	}
	switch {
	case m.Format != manifestFormat:
		return nil, fault.New(fault.Input, "%s has format %d, this esxid knows %d", path, m.Format, manifestFormat)
	case m.File != filepath.Base(imagePath):
		return nil, fault.New(fault.Input, "%s belongs to the image %.200q, not to %s", path, m.File, filepath.Base(imagePath))
	case len(m.SHA256) != 2*sha256.Size || m.PackedSize <= 0 || m.Name == "" || m.Title == "":
		return nil, fault.New(fault.Input, "%s is damaged: sha256, packed_size, name or title is missing", path)
	}
	return m, nil
}

// PublishImage is what a publisher needs of the image at path.
func (m *Manifest) PublishImage(path string) publish.Image {
	return publish.Image{
		Path: path, Name: m.Name, Title: m.Title, Architecture: m.Architecture,
		SHA256: m.SHA256, Size: m.PackedSize,
		Manifest: filepath.Join(filepath.Dir(path), ManifestName),
		Dir:      dirName(m.Name, m.ISO.Build),
	}
}

// expectation is what verify must find in the image of the manifest.
func (m *Manifest) expectation() (image.Expect, error) {
	partitions, err := expectedPartitions(m.Layout)
	if err != nil {
		return image.Expect{}, err
	}
	return image.Expect{
		RawSize: m.RawSize, PackedSize: m.PackedSize, SHA256: m.SHA256,
		Partitions: partitions, Files: m.Payload,
	}, nil
}

func expectedPartitions(layout string) ([]image.ExpectedPartition, error) {
	table, err := readProfiles()
	if err != nil {
		return nil, err
	}
	list, ok := table.layouts[layout]
	if !ok {
		return nil, fault.New(fault.Input, "unknown partition layout %.40q", layout)
	}
	var out []image.ExpectedPartition
	for _, p := range list {
		guid, err := image.ParseGUID(p.Type)
		if err != nil {
			return nil, err
		}
		out = append(out, image.ExpectedPartition{Number: p.Number, Type: guid, First: p.First, Last: p.Last, FAT: p.FAT, Optional: p.Optional})
	}
	return out, nil
}
