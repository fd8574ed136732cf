package build

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/esxid/esxid/internal/image"
)

// pack compresses the customized disk.
func (s *step) pack(ctx context.Context) (string, error) {
	r, err := image.Pack(ctx, filepath.Join(s.dir, diskName), filepath.Join(s.dir, imageName), image.PackOptions{Progress: s.progress, Fit: true})
	if err != nil {
		return "", err
	}
	s.build.Image = &ImageRecord{RawSize: r.RawSize, DataSize: r.DataSize, PackedSize: r.PackedSize, SHA256: r.SHA256}
	return fmt.Sprintf("%d MiB of data in a raw size of %d MiB, packed to %d MiB", r.DataSize>>20, r.RawSize>>20, r.PackedSize>>20), nil
}
