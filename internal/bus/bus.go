// Package bus puts the service on the system bus as org.esxid1: everybody may look, and
// who may change something polkit decides. esxid-dbus(7) describes it.
//
// The bus is a window, not a part of the machinery: without it, or when it goes away,
// the service works on, and is on the bus again as soon as there is one.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/build"
)

// Service is what is put on the bus. Its methods may be called from any goroutine; by
// is the name of the user who asks.
type Service interface {
	// Snapshot returns a copy of all there is to see; Changed gets a value when it would be
	// another one.
	Snapshot() build.Snapshot
	Changed() <-chan struct{}

	// Build makes an image of the ISO in f, which people call name; Rebuild makes
	// one anew, of a build's id or a boot resource name. Both return the build's id.
	Build(ctx context.Context, f *os.File, name, by string) (id string, err error)
	Rebuild(which, by string) (id string, err error)
	Retry(id, by string) error
	// Cancel returns when the build has ended.
	Cancel(ctx context.Context, id, by string) error
	Publish(id, by string) error
	Rescan()

	// Screenshot returns a PNG, Console an open log file.
	Screenshot(ctx context.Context, id string) ([]byte, error)
	Console(id string) (*os.File, error)
}

// Server is the service's presence on the bus. Its fields are not changed once it runs.
type Server struct {
	Service       Service
	Version       string
	DropDirectory string
	Log           *slog.Logger
	Level         *slog.LevelVar // what LogControl1 changes
	LogTarget     string         // what LogControl1 shows: journal or console
}

const (
	// interval is the least time between two rounds of property changes.
	interval = 500 * time.Millisecond
	// Bounds of the pause between two attempts to reach the bus.
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Run keeps the service on the bus until ctx ends. What goes wrong is logged, once
// per outage.
func (s *Server) Run(ctx context.Context) {
	pause, lost := firstPause, false
	for ctx.Err() == nil {
		began := time.Now()
		err := s.serve(ctx, func() {
			if lost {
				s.Log.Info("On the system bus again.")
			}
			lost = false
		})
		if ctx.Err() != nil {
			return
		}
		if !lost {
			s.Log.Warn(fmt.Sprintf("Not on the system bus, so esxid status and the like do not work; building goes on: %v.", err))
			lost = true
		}
		if time.Since(began) > lastPause { // it was fine for a while
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// serve is on the bus until ctx ends or the bus goes away. It calls ready when it is
// there.
func (s *Server) serve(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	here := &session{Server: s, exporter: &exporter{specs: specs()}, ctx: ctx, calls: map[string]int{}}
	conn, err := dbus.ConnectSystemBus(dbus.WithHandler(here), dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("cannot reach the system bus: %w", err)
	}
	defer conn.Close()
	here.conn = conn
	if err := here.refresh(); err != nil {
		return err
	}
	lost := make(chan *dbus.Signal, 16)
	conn.Signal(lost)
	reply, err := conn.RequestName(Name, dbus.NameFlagDoNotQueue)
	if err != nil {
		return fmt.Errorf("cannot own the name %s on the system bus: %w", Name, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("cannot own the name %s on the system bus: another process has it", Name)
	}
	ready()
	return here.follow(lost)
}

// follow tells the bus what changes, as often as is sensible, until the connection ends.
func (s *session) follow(signals <-chan *dbus.Signal) error {
	var pause <-chan time.Time
	for {
		changed := s.Service.Changed()
		if pause != nil {
			changed = nil
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-s.conn.Context().Done():
			return errors.New("the bus closed the connection")
		case sig := <-signals:
			if isLoss(sig) {
				return errors.New("another process took the name " + Name)
			}
		case <-changed:
			if err := s.refresh(); err != nil {
				return err
			}
			pause = time.After(interval)
		case <-pause:
			pause = nil
		}
	}
}

// isLoss says whether a signal is the bus's own about the loss of our name. Everybody may send
// us a signal with these words.
func isLoss(sig *dbus.Signal) bool {
	return sig != nil && sig.Sender == "org.freedesktop.DBus" && sig.Name == "org.freedesktop.DBus.NameLost" &&
		len(sig.Body) > 0 && sig.Body[0] == Name
}

// refresh shows the service as it is now.
func (s *session) refresh() error {
	s.refreshing.Lock() // an older snapshot must not come after a newer one
	defer s.refreshing.Unlock()
	t := newTree(s.Service.Snapshot(), s.Version, s.DropDirectory)
	t[logControlPath] = s.logControlObject()
	return s.replace(t)
}

// specs are the interfaces by name.
func specs() map[string]*iface {
	all := map[string]*iface{}
	for _, i := range []*iface{
		managerInterface, buildInterface, imageInterface, logControlInterface,
		propertiesInterface, objectManagerInterface, introspectableInterface,
	} {
		all[i.name] = i
	}
	return all
}
