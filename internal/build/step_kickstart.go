package build

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/internal/kickstart"
)

// marker is what the installer's log must show for the installation to have
// succeeded. It differs from build to build, so that an old log proves nothing.
func marker(p Plan) string { return "esxid-installed-" + p.InstallKey[8:24] }

func ksVersion(p Plan) kickstart.Version {
	return kickstart.Version{Number: p.ISO.Version, Build: p.ISO.Build}
}

// kickstart lints the layers and renders the file the installer gets.
func (s *step) kickstart(context.Context) (string, error) {
	src, err := s.Store.readLayers(s.build)
	if err != nil {
		return "", err
	}
	hash, err := passwordHash(s.Config, s.dir)
	if err != nil {
		return "", err
	}
	text, err := kickstart.Render(src, kickstart.Options{
		PasswordHash: hash,
		Marker:       marker(s.build.Plan),
		FirstBoot:    guest.FirstBoot(),
		Version:      ksVersion(s.build.Plan),
	})
	if err != nil {
		return "", err
	}
	// The hash must not be readable by others.
	if err := durable.WriteFile(filepath.Join(s.dir, ksName), text, 0o600); err != nil {
		return "", err
	}
	last := s.build.Plan.Kickstart[0]
	return fmt.Sprintf("from %s, root password: %s", last, s.build.Plan.RootPassword), nil
}
