package daemon

import (
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/publish"
)

// settings are what a reload replaces, all at once. Nothing changes them once
// they are in use; who needs two things of them asks once, so that both are of
// the same configuration.
type settings struct {
	cfg     *config.Config
	targets []publish.Publisher
}

func newSettings(load func() (*config.Config, error)) (*settings, error) {
	cfg, err := load()
	if err != nil {
		return nil, err
	}
	targets, err := Targets(cfg)
	if err != nil {
		return nil, err
	}
	return &settings{cfg, targets}, nil
}

// settings returns those in use. Any goroutine may ask.
func (d *Daemon) settings() *settings { return d.inUse.Load() }
