package bus

import (
	"log/slog"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/fault"
)

// org.freedesktop.LogControl1(5): systemctl service-log-level esxid debug.

// levels are systemd's levels that slog has, the most important first.
var levels = []struct {
	name  string
	level slog.Level
}{{"err", slog.LevelError}, {"warning", slog.LevelWarn}, {"info", slog.LevelInfo}, {"debug", slog.LevelDebug}}

// coarser are systemd's other levels, as the nearest of ours.
var coarser = map[string]string{"emerg": "err", "alert": "err", "crit": "err", "notice": "warning"}

func (s *Server) logControlObject() object {
	level := "debug"
	for _, l := range levels {
		if s.Level.Level() >= l.level {
			level = l.name
			break
		}
	}
	return one(logControl, map[string]any{"LogLevel": level, "LogTarget": s.LogTarget, "SyslogIdentifier": "esxid"})
}

func (c *call) setLogLevel(v dbus.Variant) error {
	if err := c.rootOnly(); err != nil {
		return err
	}
	name, _ := v.Value().(string)
	if mapped, ok := coarser[name]; ok {
		name = mapped
	}
	for _, l := range levels {
		if l.name == name {
			c.Level.Set(l.level)
			return c.refresh()
		}
	}
	return fault.New(fault.Usage, "there is no log level %.20q: try err, warning, info or debug", name)
}

func (c *call) setLogTarget(dbus.Variant) error {
	if err := c.rootOnly(); err != nil {
		return err
	}
	return dbus.NewError(notSupported, []any{"esxid logs to the " + c.LogTarget + "; that cannot be changed while it runs"})
}

// rootOnly refuses everybody else. There is no polkit action for what only systemctl does.
func (c *call) rootOnly() error {
	uid, err := c.uid()
	if err == nil && uid != 0 {
		err = fault.New(fault.NotPermitted, "only root may change how esxid logs")
	}
	return err
}
