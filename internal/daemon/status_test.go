package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/build"
)

// When all is done the service manager must not go on showing the last step.
func TestStatusWhenIdle(t *testing.T) {
	m := newManager(t)
	r := newRig(t, t.TempDir())
	r.addISO("6.7.0", "8169922")
	r.run()
	for got := ""; got != "STATUS=Waiting for ISOs · 1 published"; {
		got = m.until("STATUS=")
	}
}

// The lines as an administrator reads them.
func TestStatusLine(t *testing.T) {
	now := time.Now()
	install := build.Event{Time: now, Step: build.StepInstall, State: build.EventRunning, Percent: 62.9, Message: "post: secret-looking line of the installer"}
	tests := []struct {
		name    string
		event   *build.Event
		times   build.Times
		elapsed time.Duration
		trouble string
		want    string
	}{
		{name: "nothing to do", want: "Waiting for ISOs · 2 queued · 1 published"},
		{name: "installing", event: &install, elapsed: 6 * time.Minute,
			times: build.Times{build.StepInstall: 9 * time.Minute, build.StepCustomize: 10 * time.Second, build.StepPack: 20 * time.Second, build.StepVerify: 10 * time.Second, build.StepPublish: 15 * time.Second},
			want:  "Building esxi/8.0 (24022510): install 62 %, 4 min left · 1 queued · 1 published"},
		{name: "the first of its kind", event: &install, want: "Building esxi/8.0 (24022510): install 62 % · 1 queued · 1 published"},
		{name: "unknown", event: &build.Event{Time: now, Step: build.StepCustomize, State: build.EventStarted, Percent: -1},
			want: "Building esxi/8.0 (24022510): customize · 1 queued · 1 published"},
		{name: "between steps", event: &build.Event{Time: now, Step: build.StepPack, State: build.EventDone, Percent: 100},
			want: "Preparing esxi/8.0 (24022510) · 1 queued · 1 published"},
		{name: "publishing", event: &build.Event{Time: now, Step: build.StepPublish, State: build.EventRunning, Percent: 40, Done: 40, Total: 100, Message: "prod"}, elapsed: 20 * time.Second,
			want: "Publishing esxi/8.0 (24022510) to prod: 40 %, less than 1 min left · 1 queued · 1 published"},
		{name: "trouble comes first", event: &install, trouble: "Target prod:\n nobody\x1b answers",
			want: "Target prod: nobody? answers · Building esxi/8.0 (24022510): install 62 % · 1 queued · 1 published"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := prepared(t)
			running := r.addISO("8.0.2", "24022510")
			r.addISO("6.7.0", "8169922")
			done := r.addISO("7.0.3", "21930508")
			r.reconcile()
			r.builds[r.current[done]].State = build.Done
			if tt.event != nil {
				id := r.current[running]
				r.builds[id].State = build.Building
				r.running[id] = func() {}
				r.live[id] = &live{record: r.builds[id], event: *tt.event, times: tt.times, counts: now.Add(-tt.elapsed)}
			}
			r.trouble("target prod", tt.trouble)
			if got := r.compose(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatusWithoutTarget(t *testing.T) {
	r := prepared(t)
	r.inUse.Store(&settings{cfg: r.cfg})
	sum := r.addISO("7.0.3", "21930508")
	r.reconcile()
	r.builds[r.current[sum]].State = build.Done
	if got, want := r.compose(), "No target is configured: images stay in "+r.store.Images+" · Waiting for ISOs · 1 built"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// However much is wrong, the service manager takes the line.
func TestStatusIsBounded(t *testing.T) {
	m := newManager(t)
	r := prepared(t)
	for i := range 100 {
		r.trouble(fmt.Sprint("target ", i), strings.Repeat("ü", 1000))
	}
	last := ""
	for got := m.next(time.Second); got != ""; got = m.next(100 * time.Millisecond) {
		if len(got) > 4096 {
			t.Fatalf("a notification of %d bytes", len(got))
		}
		last = got
	}
	if !strings.HasSuffix(last, "…") {
		t.Errorf("the last one is %d bytes", len(last))
	}
}

// A step that reports each second changes the line every few seconds only.
func TestStatusIsNotRepeated(t *testing.T) {
	m := newManager(t)
	r := prepared(t)
	sum := r.addISO("8.0.2", "24022510")
	r.reconcile()
	b, _ := r.next(func(*build.Build) bool { return true })
	if b == nil || b.ID() != r.current[sum] {
		t.Fatal("there is no build")
	}
	m.drain()
	start := time.Now()
	for second := range 60 {
		e := build.Event{Time: start.Add(time.Duration(second) * time.Second), Build: b.ID(), Name: b.Plan.Name, Step: build.StepInstall, State: build.EventRunning, Percent: float64(second)}
		if second == 0 {
			e.State = build.EventStarted
		}
		r.report(e)
	}
	n := 0
	for m.next(50*time.Millisecond) != "" {
		n++
	}
	if n < 10 || n > 21 {
		t.Errorf("%d lines in a minute", n)
	}
}

func TestLeft(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Second:                "less than 1 min left",
		time.Minute:                    "1 min left",
		3*time.Minute + 10*time.Second: "4 min left",
		59 * time.Minute:               "59 min left",
		2*time.Hour + 29*time.Second:   "2 h 0 min left",
		90 * time.Minute:               "1 h 30 min left",
	} {
		if got := left(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
