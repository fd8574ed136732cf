package build

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/iso"
)

func TestCloneSharesNothing(t *testing.T) {
	make1 := func() *Build {
		return &Build{
			Plan: Plan{ID: "8.0.3-1-00000000"}, State: Built,
			Steps:     map[string]StepRecord{StepPack: {Seconds: 1}},
			Published: map[string]Publication{"prod": {SHA256: "a"}},
			Image:     &ImageRecord{SHA256: "a"}, Error: &ErrorRecord{Message: "no"},
		}
	}
	b := make1()
	c := b.Clone()
	b.Steps[StepVerify] = StepRecord{}
	b.Published["prod"] = Publication{}
	b.Image.SHA256, b.Error.Message, b.State = "b", "yes", Done
	if diff := cmp.Diff(make1(), c); diff != "" {
		t.Errorf("the copy changed:\n%s", diff)
	}
}

// Two builds of one ESXi build share the directory: the later one has it.
func TestImagesOf(t *testing.T) {
	build := func(id, number string, verified time.Time) Status {
		b := &Build{
			Plan:  Plan{ID: id, Name: "esxi/8.0", ISO: iso.Info{Version: "8.0.3", Build: number}},
			Image: &ImageRecord{SHA256: id}, Steps: map[string]StepRecord{},
		}
		if !verified.IsZero() {
			b.Steps[StepVerify] = StepRecord{Finished: verified}
		}
		return Status{Build: b}
	}
	s := &Store{Images: "/images"}
	got := s.ImagesOf([]Status{
		build("new", "2", noon.Add(time.Hour)), build("old", "2", noon), build("other", "1", noon), build("packed", "3", time.Time{}),
	})
	var ids, builds, paths []string
	for _, i := range got {
		ids, builds, paths = append(ids, i.ID), append(builds, i.Build), append(paths, i.Path)
	}
	want := [][]string{
		{"esxi-8.0-1", "esxi-8.0-2"}, {"other", "new"},
		{"/images/esxi-8.0-1/vmware-esxi-8.0.3-1.dd.gz", "/images/esxi-8.0-2/vmware-esxi-8.0.3-2.dd.gz"},
	}
	if diff := cmp.Diff(want, [][]string{ids, builds, paths}); diff != "" {
		t.Error(diff)
	}
}

// An installation that runs on in a unit must not be taken for the one that is asked
// for now.
func TestRestartDropsTheJob(t *testing.T) {
	plan := Plan{ID: "8.0.3-1-00000000", InstallKey: "key"}
	job := &JobRecord{Step: StepInstall, Nonce: "n", Key: plan.jobKey(StepInstall)}
	b := &Build{Plan: plan, Steps: map[string]StepRecord{StepKickstart: {}, StepInstall: {}}, Job: job}
	copied := b.Clone()
	b.Restart()
	if len(b.Steps) != 0 || b.Job == nil || b.Job.Step != StepInstall || b.Job.Key == plan.jobKey(StepInstall) {
		t.Errorf("steps %v, job %+v", b.Steps, b.Job)
	}
	if copied.Job.Key != plan.jobKey(StepInstall) {
		t.Error("the copy's job has changed")
	}
}
