package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/bus"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/daemon"
	"github.com/esxid/esxid/internal/journal"
)

func newRunCommand() *cobra.Command {
	var configPath string
	cmd := &cobra.Command{
		Use:   "run [--config FILE]",
		Short: "Run the service",
		Long:  "run watches incoming for installer ISOs and the kickstart directory for changes,\nbuilds an image for each ISO and publishes it. It works in the foreground until it\ngets SIGINT or SIGTERM; what it was doing then, or when it was killed, goes on at\nthe next start. At SIGHUP it reads its configuration again; one that cannot be used\nis reported, and the old one stays.",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getenv("NOTIFY_SOCKET") != "" {
				if err := useSmallPages(); err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "esxid: cannot do without huge pages: %v; more memory is used\n", err)
				}
			}
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			level := &slog.LevelVar{}
			handler := journal.NewHandler(cmd.ErrOrStderr(), level)
			log := slog.New(handler)
			d, err := daemon.New(configReader(configPath), version, log)
			if err != nil {
				return err
			}
			go forward(cmd.Context(), reload, d.Reload)
			go showOnBus(cmd.Context(), d, bus.Server{
				Service: d, Version: version, DropDirectory: d.DropDirectory(), Log: log, Level: level, LogTarget: logTarget(handler),
			})
			return d.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&configPath, "config", "", "configuration file (default /etc/esxid/esxid.toml)")
	return cmd
}

// useSmallPages starts this program once more, as the same process, without transparent
// huge pages: where they are used for everything (Debian's default) an idle service
// holds twice the memory it needs. Only pages that are not there yet are kept small
// (PR_SET_THP_DISABLE in prctl(2)), and Go and its libraries begin with huge ones. What
// the service starts inherits it; virtual machines, which gain from them, run in units.
func useSmallPages() error {
	off, err := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
	if err != nil || off != 0 {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	// Not /proc/self/exe: ps(1) and the journal would call the process exe.
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(program, os.Args, os.Environ())
}

// showOnBus puts the service on the system bus once it may be controlled.
func showOnBus(ctx context.Context, d *daemon.Daemon, server bus.Server) {
	select {
	case <-ctx.Done():
	case <-d.Ready():
		server.Run(ctx)
	}
}

// logTarget is systemd's word for where a handler writes.
func logTarget(h slog.Handler) string {
	if _, isText := h.(*slog.TextHandler); isText {
		return "console"
	}
	return "journal"
}

// configReader returns what reads the configuration, at the start and at each
// reload. The system's file may be absent at the start; once it was there, its
// absence is a mistake, and not a wish for the defaults.
func configReader(path string) func() (*config.Config, error) {
	return func() (*config.Config, error) {
		if path == "" {
			if _, err := os.Stat(config.DefaultPath); err == nil {
				path = config.DefaultPath
			}
		}
		return loadConfig(path)
	}
}

// forward calls f for each signal.
func forward(ctx context.Context, signals <-chan os.Signal, f func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			f()
		}
	}
}
