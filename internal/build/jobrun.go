package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/vm"
)

// jobRun runs a job in a build's directory: in the service's own process, or in
// the process of a unit.
type jobRun struct {
	id      string
	dir     *directory
	lockDir string // of nbd
	event   func(Event)
	warn    func(string)
	// resolveAccel turns kvm, tcg or auto into kvm or tcg.
	resolveAccel func(ctx context.Context, accel string) (string, error)
}

func (r *jobRun) run(ctx context.Context, j *Job) (note string, err error) {
	if j.Install != nil {
		return r.install(ctx, j.Install)
	}
	return r.customize(ctx, j.Customize)
}

// handOver runs a step as a job: in this process, or in a unit.
func (s *step) handOver(ctx context.Context, name string) (string, error) {
	if s.RunUnit != nil {
		return s.outside(ctx, name)
	}
	d, err := openDirectory(s.Store.Builds, s.build.ID(), anyOwner)
	if err != nil {
		return "", err
	}
	defer d.close()
	r := jobRun{
		id: s.build.ID(), dir: d, lockDir: s.Config.RuntimeDir, event: s.event, warn: s.warn,
		resolveAccel: func(ctx context.Context, _ string) (string, error) { return s.ResolveAccel(ctx) },
	}
	j := s.job(name)
	return r.run(ctx, &j)
}

// JobOptions say where a job is and how to tell how it goes.
type JobOptions struct {
	Builds   string // directory of the builds
	Build    string // id
	Step     string
	Owner    int    // the user that the build's directory and its files must belong to
	LockDir  string // for nbd's records; only this user may write to it
	Progress func(line string)
}

// RunJob does the job that lies in a build's directory and leaves the result
// there; the error is the job's. It is all that the process of a unit does. A job
// is taken when it begins, so that it is never done twice.
func RunJob(ctx context.Context, o JobOptions) (note string, err error) {
	if !idForm.MatchString(o.Build) {
		return "", fault.New(fault.Usage, "%.60q is not the id of a build", o.Build)
	}
	d, err := openDirectory(o.Builds, o.Build, o.Owner)
	if err != nil {
		return "", err
	}
	defer d.close()
	j, err := d.takeJob(o.Build, o.Step)
	if err != nil {
		return "", fmt.Errorf("cannot use the job in %s: %w", filepath.Join(d.path, jobName), err)
	}
	result := Result{Format: jobFormat, Nonce: j.Nonce}
	lines := newLines(o.Progress)
	r := jobRun{
		id: o.Build, dir: d, lockDir: o.LockDir,
		event: func(e Event) { lines.show(formatProgress(e)) },
		warn: func(text string) {
			text = strings.ReplaceAll(text, "\n", "; ")
			lines.showNow(warningPrefix + text)
			result.Warnings = append(result.Warnings, text)
		},
	}
	r.resolveAccel = func(ctx context.Context, accel string) (string, error) {
		accel, why, err := vm.Resolve(ctx, j.Install.QEMU, accel)
		if why != "" {
			r.warn(why)
		}
		return accel, err
	}
	start := time.Now()
	result.Note, err = r.run(ctx, j)
	result.Seconds = time.Since(start).Seconds()
	if err != nil {
		err = fullDisk(err)
		result.Stopped = Interrupted(ctx, err)
		result.Failure = failure(err)
	}
	return result.Note, errors.Join(err, d.put(resultName, &result))
}

// takeJob reads the job and removes it.
func (d *directory) takeJob(id, step string) (*Job, error) {
	text, err := d.read(jobName, maxJob)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Usage, "there is none: esxid run makes one when the step is due")
	}
	if err != nil {
		return nil, err
	}
	j, err := parseJob(text, id, step)
	if err != nil {
		return nil, err
	}
	if err := d.remove(jobName); err != nil {
		return nil, err
	}
	return j, d.file.Sync()
}

// result returns the result of the job with a nonce, nil if there is none. One of
// another job does not count.
func (d *directory) result(nonce string) (*Result, error) {
	text, err := d.read(resultName, maxJob)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Result{}
	if err := unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", filepath.Join(d.path, resultName), err)
	}
	if r.Format != jobFormat || r.Nonce != nonce {
		return nil, nil
	}
	return r, nil
}

// has says whether there is something under a name.
func (d *directory) has(name string) bool {
	_, err := os.Lstat(filepath.Join(d.path, name))
	return err == nil
}
