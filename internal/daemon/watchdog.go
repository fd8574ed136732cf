package daemon

import (
	"context"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
)

// life is what one of the service's loops shows of itself to the watchdog. A loop
// that waits for something to do answers when it is asked; one that works gives
// signs with its progress, and says how long the next one may take. It is the loop
// itself that does both: a loop that is stuck is dead, whatever else still runs.
type life struct {
	name  string
	asked chan struct{} // capacity 1: "are you there?", to be answered with here

	mu    sync.Mutex
	last  time.Time     // of the last sign
	limit time.Duration // until the next one
}

func newLife(name string) *life {
	return &life{name: name, asked: make(chan struct{}, 1), last: time.Now(), limit: bookkeeping}
}

// here is a sign of a loop that waits, or does what takes no time worth mentioning.
func (l *life) here() { l.busy(bookkeeping) }

// busy is a sign of a loop that works, and gives the next one within limit.
func (l *life) busy(limit time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.limit = time.Now(), limit
}

// alive says whether there was a sign since the loop was asked, or the next one is
// not due yet. Times are compared by the monotonic clock.
func (l *life) alive(asked, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.last.Before(asked) || now.Sub(l.last) < l.limit
}

// bookkeeping is how long a loop may be busy with records and old files before it
// answers: removing some images of many gigabytes takes a while on a slow disk.
const bookkeeping = 5 * time.Minute

// silence is how long a step may go without a sign of progress. Each bounds its own
// waits by less: the installer by vm.idle_timeout; the others show progress in bytes,
// but may sync a file of some gigabytes, or wait for MAAS to hash one, in between.
func silence(cfg *config.Config, step string) time.Duration {
	switch step {
	case build.StepInstall:
		return cfg.VM.IdleTimeout + 5*time.Minute
	case build.StepPublish:
		return 30 * time.Minute
	}
	return 15 * time.Minute
}

// watchdog tells the service manager that the service works, for as long as each of
// its loops proves that it does (WatchdogSec= in systemd.service(5)). It asks three
// times in each period.
func (d *Daemon) watchdog(ctx context.Context) {
	period, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn("The service manager's watchdog cannot be used: "+err.Error()+".", "error", err)
	}
	if period <= 0 {
		return
	}
	tick := time.NewTicker(period / 3)
	defer tick.Stop()
	dead := ""
	for asked := time.Now(); ; asked = time.Now() {
		for _, l := range d.lives {
			wake(l.asked)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		was := dead
		dead = d.lifeless(asked)
		switch {
		case dead == "":
			notify("WATCHDOG=1")
		case was == "":
			d.log.Error("The "+dead+" gives no sign of life; if that goes on the service manager restarts the service.", "loop", dead)
		}
	}
}

// lifeless names a loop that is not alive, or "".
func (d *Daemon) lifeless(asked time.Time) string {
	now := time.Now()
	for _, l := range d.lives {
		if !l.alive(asked, now) {
			return l.name
		}
	}
	return ""
}
