package daemon

import (
	"fmt"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/publish/directory"
	"github.com/esxid/esxid/internal/publish/maas"
)

// Targets makes a publisher for every configured target.
func Targets(cfg *config.Config) ([]publish.Publisher, error) {
	var targets []publish.Publisher
	for _, t := range cfg.Targets {
		var p publish.Publisher
		var err error
		switch t.Type {
		case config.TargetMAAS:
			p, err = maas.New(t)
		case config.TargetDirectory:
			p, err = directory.New(t)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use target %s: %w", t.Name, err)
		}
		targets = append(targets, p)
	}
	return targets, nil
}
