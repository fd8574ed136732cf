package build

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func timed(id, profile string, finished time.Time, seconds map[string]float64) *Build {
	b := &Build{Plan: Plan{ID: id, Profile: Profile{Version: profile}}, Steps: map[string]StepRecord{}}
	for step, s := range seconds {
		b.Steps[step] = StepRecord{Finished: finished, Seconds: s}
	}
	return b
}

func TestTimesFor(t *testing.T) {
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	now := timed("now", "8.0", at(9), map[string]float64{StepInstall: 1})
	builds := []*Build{
		now,
		timed("a", "8.0", at(1), map[string]float64{StepInstall: 900}), // the sixth: too old
		timed("b", "8.0", at(2), map[string]float64{StepInstall: 100}),
		timed("c", "8.0", at(3), map[string]float64{StepInstall: 700}),
		timed("d", "8.0", at(4), map[string]float64{StepInstall: 300}),
		timed("e", "8.0", at(5), map[string]float64{StepInstall: 200, StepVerify: 0}),
		timed("f", "8.0", at(6), map[string]float64{StepInstall: 400}),
		timed("g", "6.7", at(7), map[string]float64{StepInstall: 50, StepPack: 20}),
	}
	got := TimesFor(now, builds)
	want := Times{StepInstall: 300 * time.Second, StepPack: 20 * time.Second}
	if len(got) != len(want) || got[StepInstall] != want[StepInstall] || got[StepPack] != want[StepPack] {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLeft(t *testing.T) {
	earlier := Times{StepInstall: 100 * time.Second, StepPack: 50 * time.Second}
	for _, c := range []struct {
		name    string
		event   Event
		elapsed time.Duration
		want    time.Duration // negative: unknown
	}{
		{"by earlier builds", Event{Step: StepInstall, Percent: 90}, 40 * time.Second, 60 * time.Second},
		{"longer than before", Event{Step: StepInstall, Percent: 90}, 100 * time.Second, -1},
		{"never done before", Event{Step: StepVerify, Percent: 50}, 10 * time.Second, -1},
		{"by its own rate", Event{Step: StepPack, Done: 25, Total: 100}, 20 * time.Second, 60 * time.Second},
		{"by its own rate, never done before", Event{Step: StepVerify, Done: 25, Total: 100}, 20 * time.Second, 60 * time.Second},
		{"too early for a rate", Event{Step: StepPack, Done: 25, Total: 100}, time.Second, 49 * time.Second},
		{"too little for a rate", Event{Step: StepPack, Done: 1, Total: 100}, 10 * time.Second, 40 * time.Second},
		{"all bytes done", Event{Step: StepPack, Done: 100, Total: 100}, 10 * time.Second, 0},
		{"more than there is", Event{Step: StepPack, Done: 101, Total: 100}, 10 * time.Second, 40 * time.Second},
		{"clock set back", Event{Step: StepInstall}, -time.Hour, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.event.Time = noon.Add(c.elapsed)
			got, known := earlier.Left(c.event, noon)
			if known != (c.want >= 0) || known && got != c.want {
				t.Errorf("got %v, %v; want %v", got, known, c.want)
			}
		})
	}
}

func TestBuildLeft(t *testing.T) {
	all := Times{StepInstall: 100 * time.Second, StepCustomize: 5 * time.Second, StepPack: 50 * time.Second, StepVerify: 20 * time.Second, StepPublish: 30 * time.Second}
	e := Event{Time: noon.Add(40 * time.Second), Step: StepInstall, Percent: -1}
	if left, known := all.BuildLeft(e, noon); !known || left != 165*time.Second {
		t.Errorf("got %v, %v; want 165s", left, known)
	}
	e.Step = StepPublish
	if _, known := all.BuildLeft(e, noon); known {
		t.Error("a publication that takes longer than before has a known end")
	}
	delete(all, StepPublish)
	e.Step = StepInstall
	if left, known := all.BuildLeft(e, noon); known {
		t.Errorf("the end is known (%v left) although no build was published yet", left)
	}
	if _, known := all.BuildLeft(Event{Step: "identify", Time: noon}, noon); known {
		t.Error("a step that is none has a known end")
	}
}
