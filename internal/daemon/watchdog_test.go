package daemon

import (
	"testing"
	"time"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/config"
)

const ping = "WATCHDOG=1"

// pings says whether the watchdog is fed during the next periods.
func (m *manager) pings() bool {
	m.drain()
	for deadline := time.Now().Add(3 * testPeriod); time.Now().Before(deadline); {
		if m.next(time.Until(deadline)) == ping {
			return true
		}
	}
	return false
}

const testPeriod = 300 * time.Millisecond

// The pings are the loops' own: one loop that hangs is enough to end them.
func TestStuckLoopStopsThePings(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "300000")
	t.Run("main loop", func(t *testing.T) {
		m := newManager(t)
		r := newRig(t, t.TempDir())
		load, hang, hanging := r.load, make(chan struct{}), make(chan struct{})
		r.load = func() (*config.Config, error) {
			close(hanging)
			<-hang
			return load()
		}
		r.run()
		m.until(ping)
		r.Reload()
		<-hanging
		m.until("RELOADING=1")
		if !m.pings() {
			t.Error("the main loop has just begun to read the configuration and the watchdog is not fed")
		}
		r.mainLife.age()
		if m.pings() {
			t.Error("the main loop hangs and the watchdog is fed")
		}
		close(hang)
		m.until(ping)
	})
	for _, loop := range []struct {
		name, step string
		life       func(*rig) *life
		begin      func(r *rig)
	}{
		{"builds", build.StepInstall, func(r *rig) *life { return r.buildLife }, func(r *rig) { r.f.block = make(chan struct{}) }},
		{"publications", build.StepPublish, func(r *rig) *life { return r.publishLife }, func(r *rig) { r.f.blockSend = make(chan struct{}) }},
	} {
		t.Run(loop.name, func(t *testing.T) {
			m := newManager(t)
			r := newRig(t, t.TempDir())
			loop.begin(r)
			sum := r.addISO("8.0.3", "24280767")
			r.run()
			r.until("the loop is at work", func(map[string]*build.Build) bool {
				r.f.mu.Lock()
				defer r.f.mu.Unlock()
				return len(r.f.made) == 1 && (r.f.blockSend == nil || len(r.f.sent) == 1)
			})
			if !m.pings() {
				t.Error("a step has begun and the watchdog is not fed")
			}
			loop.life(r).age()
			if m.pings() {
				t.Error("the step hangs and the watchdog is fed")
			}
			r.mu.Lock()
			id := r.current[sum]
			r.mu.Unlock()
			r.report(build.Event{Time: time.Now(), Build: id, Step: loop.step, State: build.EventRunning, Percent: -1})
			if !m.pings() {
				t.Error("the step goes on and the watchdog is not fed")
			}
		})
	}
}

// age lets a day go by without a sign.
func (l *life) age() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = l.last.Add(-24 * time.Hour)
}

func TestNoWatchdog(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	r.run()
	m.until("READY=1")
	if m.pings() {
		t.Error("nobody asked for pings")
	}
}

// Each step's own limits must end it before the watchdog ends the service.
func TestSilence(t *testing.T) {
	cfg := config.Default()
	cfg.VM.IdleTimeout = 3 * time.Hour
	for _, step := range build.Steps {
		got := silence(cfg, step)
		if got < 10*time.Minute || step == build.StepInstall && got <= cfg.VM.IdleTimeout {
			t.Errorf("%s may be silent for %v", step, got)
		}
	}
}

func TestAlive(t *testing.T) {
	asked := time.Now()
	tests := []struct {
		name  string
		last  time.Time
		limit time.Duration
		want  bool
	}{
		{"answered", asked.Add(time.Second), 0, true},
		{"did not answer", asked.Add(-time.Second), 0, false},
		{"busy", asked.Add(-time.Minute), 5 * time.Minute, true},
		{"busy for too long", asked.Add(-time.Hour), 5 * time.Minute, false},
	}
	for _, tt := range tests {
		l := &life{last: tt.last, limit: tt.limit}
		if got := l.alive(asked, asked.Add(10*time.Second)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// What takes long at the start asks for the time; the end is told at once.
func TestStartAndStop(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	r.f.block = make(chan struct{})
	r.addISO("8.0.3", "24280767")
	stop := r.run()
	m.until("EXTEND_TIMEOUT_USEC=")
	m.until("READY=1")
	<-r.f.started
	start := time.Now()
	go stop()
	m.until("STOPPING=1")
	stop() // waits
	if got := m.next(100 * time.Millisecond); got != "" {
		t.Errorf("then it notified %q", got)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}
