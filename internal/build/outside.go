package build

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/units"
)

// outside runs a step in a unit of its own, and returns when that has ended. A
// unit that was started for the same, by this process or by one before it, is
// followed; if it has ended meanwhile, its result counts.
//
// The record tells which job is under way (Build.Job) from before the unit is
// started until its end is known. If ctx ends the unit goes on without us, unless
// the cause is units.ErrStop.
func (s *step) outside(ctx context.Context, name string) (string, error) {
	d, err := openShared(s.Store.Builds, s.build.ID())
	if err != nil {
		return "", err
	}
	defer d.close()
	if err := s.stopOther(ctx, name); err != nil {
		return "", err
	}
	for again := true; ; again = false {
		if s.build.Job == nil {
			again = false
			if err := s.begin(d, name); err != nil {
				return "", err
			}
		}
		exit, err := s.RunUnit(ctx, units.Name(name, s.build.ID()), units.RunOptions{
			// A job that was taken is under way, or over.
			FollowOnly: !d.has(jobName),
			Status:     s.hear,
		})
		if err != nil {
			// Else it is still under way, as far as is known, and followed the next time.
			stopped := errors.Is(context.Cause(ctx), units.ErrStop) && errors.Is(err, units.ErrStop)
			notStarted := errors.As(err, &units.NotStarted{}) && d.has(jobName)
			if stopped || notStarted {
				s.build.Job = nil
			}
			return "", err
		}
		result, err := d.result(s.build.Job.Nonce)
		if result != nil {
			s.warnOnce(result.Warnings...)
		}
		s.build.Job = nil
		switch {
		case err != nil:
			return "", err
		case again && exit.Result == "" && (result == nil || result.Stopped):
			continue // it was not seen to fail: the host was shut down, or lost its power
		case result != nil:
			return s.conclude(exit, result)
		}
		return "", exit.Err()
	}
}

// begin makes a job and puts down that there is one.
func (s *step) begin(d *directory, name string) error {
	j := s.job(name)
	j.Nonce = rand.Text()
	if err := d.put(jobName, &j); err != nil {
		return err
	}
	s.build.Job = &JobRecord{Step: name, Nonce: j.Nonce, Key: s.build.Plan.jobKey(name), Started: time.Now().UTC().Truncate(time.Second)}
	return s.Store.Save(s.build)
}

// hear takes in a unit's status line.
func (s *step) hear(line string) {
	if text, ok := strings.CutPrefix(line, warningPrefix); ok {
		s.warnOnce(text)
		return
	}
	s.event(parseProgress(line))
}

// warnOnce reports those warnings of the job that have not been reported yet.
func (s *step) warnOnce(texts ...string) {
	for _, text := range texts {
		if !slices.Contains(s.build.Job.Warned, text) {
			s.build.Job.Warned = append(s.build.Job.Warned, text)
			s.warn(text)
		}
	}
}

// stopOther ends the unit of a job that is not for what is wanted now.
func (s *step) stopOther(ctx context.Context, name string) error {
	old := s.build.Job
	if old == nil || old.Step == name && old.Key == s.build.Plan.jobKey(name) {
		return nil
	}
	return s.stopJob(ctx, s.build)
}

// stopJob ends the unit of a build's job, if there is one.
func (r *Runner) stopJob(ctx context.Context, b *Build) error {
	if b.Job == nil || r.RunUnit == nil {
		return nil
	}
	stopped, cancel := context.WithCancelCause(ctx)
	cancel(units.ErrStop)
	_, err := r.RunUnit(stopped, units.Name(b.Job.Step, b.ID()), units.RunOptions{FollowOnly: true})
	if err != nil && !errors.Is(err, units.ErrStop) {
		return err
	}
	b.Job = nil
	return nil
}

// conclude takes over a result.
func (s *step) conclude(exit units.Exit, r *Result) (string, error) {
	switch {
	case r.Failure != nil && exit.Result == "oom-kill":
		return "", exit.Err() // what the job says of its end is only what it noticed
	case r.Stopped:
		return "", fault.New(fault.TryLater, "%s was stopped; to end the build for good: esxid cancel %s", exit.Unit, s.build.ID())
	case r.Failure != nil:
		return "", r.Failure.Err()
	}
	s.seconds = r.Seconds
	return r.Note, nil
}
