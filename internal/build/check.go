package build

import (
	"context"

	"github.com/esxid/esxid/internal/image"
)

// VerifyImage checks a finished image against the manifest beside it, as the
// verify step did. The checks that were made are returned also on failure.
func VerifyImage(ctx context.Context, path string, progress func(done, total int64)) ([]image.Check, error) {
	m, err := ReadManifest(path)
	if err != nil {
		return nil, err
	}
	want, err := m.expectation()
	if err != nil {
		return nil, err
	}
	return image.Verify(ctx, path, want, progress)
}
