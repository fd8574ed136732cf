// Package daemon is the service: it takes ISOs from the drop directory, decides
// what has to be built from them, builds it, publishes it, and starts again
// where it was after any interruption.
//
// It works by reconciliation. The ISOs in the library, the kickstart overrides
// and the configuration say which builds there should be (reconcile); the
// records on disk say which there are; two workers, one for builds and one for
// publications, close the gap. An event from outside only causes another look,
// so a lost or repeated event does no harm.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/internal/nbd"
	"github.com/esxid/esxid/internal/units"
)

// Daemon is the service. Make one with New and call Run once.
type Daemon struct {
	inUse   atomic.Pointer[settings]
	load    func() (*config.Config, error)
	reload  chan struct{} // capacity 1: read the configuration again
	log     *slog.Logger
	version string
	store   *build.Store
	library *library
	secret  []byte
	// runner makes what runs the steps; tests of the queue put their own here.
	runner    func() runner
	freeSpace func(dir string) (int64, error)
	removeAll func(path string) error

	stopping atomic.Bool // the status line stays as it is

	lives                            []*life // of the loops, for the watchdog
	mainLife, buildLife, publishLife *life

	buildWake, publishWake chan struct{} // capacity 1: "look again"
	look, rescan, changed  chan struct{} // capacity 1: reconcile, read incoming, there is another Snapshot
	ready                  chan struct{} // closed by isReady when the control interface may be used
	isReady                func()

	mu       sync.Mutex
	statusAt time.Time                     // of the last status line
	builds   map[string]*build.Build       // by id; the record of a running build belongs to its worker
	current  map[string]string             // ISO sha256 → id of the build it should have
	added    map[string]time.Time          // ISO sha256 → when it was dropped
	running  map[string]context.CancelFunc // by id
	live     map[string]*live              // by id: what may be seen of the running ones
	underWay map[string]string             // by id: the step whose unit ran already when the service started
	line     string                        // the last status line
	troubles map[string]string             // see troubles.go
	targets  map[string]*health            // by target's name
	damaged  map[string]error              // by id: builds whose records cannot be used
	unsaved  map[string]bool               // by id: builds whose records could not be written
	// trash has been put aside and is removed when d.mu is free.
	trash []string
	// lastRejected is where the file is that was rejected last.
	lastRejected string
	// incomplete: the last reconcile could not find out or write everything.
	incomplete bool
	// accel is how virtual machines run here, found out for the QEMU and the setting in
	// accelFor; empty until the first build. Both belong to buildLoop.
	accel    string
	accelFor [2]string
	// units runs the steps that need other rights; nil: they run in this process.
	units *units.Manager
}

// runner runs the steps of a build; build.Runner is the real one.
type runner interface {
	Make(context.Context, *build.Build) error
	Publish(context.Context, *build.Build) error
}

// New prepares the service. load reads the configuration, now and at every
// Reload. log receives one line per event.
func New(load func() (*config.Config, error), version string, log *slog.Logger) (*Daemon, error) {
	first, err := newSettings(load)
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		load: load, reload: make(chan struct{}, 1), log: log, version: version,
		freeSpace: build.FreeSpace, removeAll: os.RemoveAll,
		troubles: map[string]string{}, targets: map[string]*health{}, damaged: map[string]error{}, unsaved: map[string]bool{},
		mainLife: newLife("main loop"), buildLife: newLife("loop of the builds"), publishLife: newLife("loop of the publications"),
		buildWake: make(chan struct{}, 1), publishWake: make(chan struct{}, 1),
		look: make(chan struct{}, 1), ready: make(chan struct{}), rescan: make(chan struct{}, 1), changed: make(chan struct{}, 1), live: map[string]*live{},
		builds: map[string]*build.Build{}, current: map[string]string{}, added: map[string]time.Time{}, running: map[string]context.CancelFunc{}, underWay: map[string]string{},
	}
	d.lives = []*life{d.mainLife, d.buildLife, d.publishLife}
	d.isReady = sync.OnceFunc(func() { close(d.ready) })
	d.inUse.Store(first)
	d.runner = d.stepRunner
	d.useUnits()
	return d, nil
}

// Run runs the service until ctx ends. A step that is interrupted by that is
// run again at the next start.
func (d *Daemon) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		d.stopping.Store(true)
		notify("STOPPING=1\nSTATUS=Stopping")
	})()
	unlock, err := d.prepare()
	if err != nil {
		return err
	}
	defer unlock()
	// The workers end also when it is not the caller who ends the service.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := d.recover(ctx); err != nil {
		return err
	}
	watches, err := d.watch(ctx, d.settings().cfg)
	if err != nil {
		return err
	}
	// Before the first build is taken: what it is made of may have changed while no
	// service was running, an upgrade among it.
	d.reconcile()
	var workers sync.WaitGroup
	for _, work := range []func(context.Context){d.buildLoop, d.publishLoop, d.watchdog} {
		workers.Go(func() { work(ctx) })
	}
	defer workers.Wait()
	defer cancel()

	d.log.Info(fmt.Sprintf("Watching %s for installer ISOs; targets: %d.", d.incoming(), len(d.settings().targets)), "directory", d.incoming())
	d.sayIfNoTarget()
	d.isReady()
	notify("READY=1")
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-watches.isos:
			if !ok {
				return stopped(ctx, d.incoming())
			}
			d.onISO(ctx, e)
		case e, ok := <-watches.kickstarts:
			if !ok {
				return stopped(ctx, d.settings().cfg.KickstartDir)
			}
			d.onKickstart(e)
		case <-watches.retry.C:
			d.lookAgain()
		case <-d.look:
			d.reconcile()
		case <-d.reload:
			watches = d.reconfigure(ctx, watches)
		case <-d.mainLife.asked:
		}
		d.mainLife.here()
	}
}

// sayIfNoTarget tells the operator where images are when they go nowhere.
func (d *Daemon) sayIfNoTarget() {
	if len(d.settings().targets) == 0 {
		d.log.Warn("No target is configured: images stay in "+d.store.Images+".", "directory", d.store.Images)
	}
}

// stopped is the error of a watch that ended although the service did not.
func stopped(ctx context.Context, dir string) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the watch on %s ended", dir)
}

func (d *Daemon) stateDir() string { return d.settings().cfg.StateDir }
func (d *Daemon) incoming() string { return filepath.Join(d.stateDir(), "incoming") }
func (d *Daemon) rejected() string { return filepath.Join(d.stateDir(), "rejected") }

// prepare makes the state directories and takes the lock that keeps a second
// daemon away from them.
func (d *Daemon) prepare() (unlock func(), err error) {
	cfg := d.settings().cfg
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{
		{cfg.StateDir, 0o755}, {d.incoming(), os.ModeSetgid | 0o775}, {d.rejected(), 0o750}, {cfg.RuntimeDir, 0o750}, {cfg.KickstartDir, 0o750},
	} {
		if err := makeDir(dir.path, dir.mode); err != nil {
			return nil, fault.New(fault.CannotWrite, "cannot make a directory of the service: %w: make it, as root: install -d -o %d -g %d -m %o %s",
				err, os.Geteuid(), os.Getegid(), unixMode(dir.mode), dir.path)
		}
	}
	path := filepath.Join(cfg.StateDir, ".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return nil, fault.New(fault.CannotWrite, "cannot lock the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.TryLater, "another esxid works on %s: stop it first (systemctl status esxid)", cfg.StateDir)
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if d.store, err = build.OpenStore(filepath.Join(cfg.StateDir, "builds"), filepath.Join(cfg.StateDir, "images")); err == nil {
		d.library, err = openLibrary(filepath.Join(cfg.StateDir, "isos"))
	}
	if err == nil {
		d.store.Dispose, d.library.dispose = d.throwAway, d.throwAway
		d.secret, err = d.store.Secret()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// unixMode is a mode as chmod(1) takes it.
func unixMode(mode os.FileMode) uint32 {
	m := uint32(mode.Perm())
	if mode&os.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	return m
}

// makeDir makes a directory that is missing, with exactly this mode: whoever
// belongs to the group of incoming must be able to drop files there, whatever
// the umask is.
func makeDir(path string, mode os.FileMode) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(path, mode.Perm()); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// recovering tells the service manager that starting takes a while yet: a step of
// the recovery may take so long.
func recovering(what string) {
	notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=Starting: %s", bookkeeping.Microseconds(), what))
}

// recover loads the records and clears what an earlier process left behind.
func (d *Daemon) recover(ctx context.Context) error {
	recovering("removing what was left half-made")
	if err := errors.Join(d.store.Clean(), unmove(d.library.dir), unmove(d.rejected())); err != nil {
		d.log.Warn("What an interrupted build left cannot be removed: "+clause(err)+".", "error", err)
	}
	recovering("detaching block devices that were left attached")
	if err := nbd.Recover(ctx, d.settings().cfg.RuntimeDir); err != nil {
		d.log.Warn("An nbd device that an earlier esxid left cannot be detached: "+clause(err)+".", "error", err)
	}
	recovering("reading the records")
	d.mu.Lock()
	defer d.mu.Unlock()
	builds, damaged, err := d.store.All()
	if err != nil {
		return err
	}
	for id, err := range damaged {
		d.damaged[id] = err
		d.log.Error("A build's record cannot be used and the build is left alone: "+err.Error()+".", journal.RecordDamaged.Attr(), "build", id, "error", err)
	}
	for _, b := range builds {
		if b.State == build.Building {
			d.log.Info(fmt.Sprintf("Going on with the interrupted build of %s.", b.Plan.Name), "build", b.ID(), "name", b.Plan.Name)
		}
		if err := d.adopt(b); err != nil {
			return err
		}
		// Until there is a plan: the build of this ISO that moved on last.
		if last := d.builds[d.current[b.Plan.ISO.SHA256]]; last == nil || !b.Changed.Before(last.Changed) {
			d.current[b.Plan.ISO.SHA256] = b.ID()
		}
	}
	return nil
}

// adopt takes over a record that was read from the disk.
func (d *Daemon) adopt(b *build.Build) error {
	if b.State == build.Building {
		if err := b.To(build.Queued, time.Now()); err != nil {
			return err
		}
	}
	d.builds[b.ID()] = b
	return nil
}

// wake makes a loop look again; it never blocks.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
