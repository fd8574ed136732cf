package build

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// publish brings the image to every target that does not have it yet. One
// target's failure does not keep it from the others.
func (s *step) publish(ctx context.Context) (string, error) {
	path := filepath.Join(s.Store.ImageDir(s.build.Plan), ImageName(s.build.Plan))
	m, err := ReadManifest(path)
	if err != nil {
		return "", err
	}
	if m.Build != s.build.ID() {
		// Not for long: whoever owns the name gets the place back.
		return "", fault.New(fault.TryLater, "%s holds the image of build %s now", filepath.Dir(path), m.Build)
	}
	if s.build.Published == nil {
		s.build.Published = map[string]Publication{}
	}
	var errs []error
	var notes []string
	for _, target := range s.Targets {
		r, err := PublishTo(ctx, target, m.PublishImage(path), func(done, total int64) {
			percent := 100 * float64(done) / float64(max(total, 1))
			s.event(Event{State: EventRunning, Percent: percent, Done: done, Total: total, Message: target.Name()})
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		notes = append(notes, fmt.Sprintf("%s: %s (%s)", target.Name(), r.Action, r.Location))
		s.build.Published[target.Name()] = Publication{
			Address: target.Address(), SHA256: m.SHA256, Location: r.Location, Finished: time.Now().UTC().Truncate(time.Second),
		}
		if err := s.Store.Save(s.build); err != nil {
			return "", err
		}
	}
	if len(s.Targets) == 0 {
		notes = append(notes, "no target is configured; the image is in "+filepath.Dir(path))
	}
	return strings.Join(notes, ", "), Worst(errs)
}

// PublishTo publishes to one target; its error names the target.
func PublishTo(ctx context.Context, target publish.Publisher, img publish.Image, progress func(done, total int64)) (publish.Result, error) {
	r, err := target.Publish(ctx, img, progress)
	if err != nil {
		return r, fmt.Errorf("cannot publish %s to %s: %w", img.Name, target.Name(), err)
	}
	return r, nil
}

// Worst joins the errors of several targets. One that needs the operator decides
// the class, so that it is not taken for one that passes.
func Worst(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	class := fault.ClassOf(errs[0])
	for _, err := range errs {
		if !fault.Passes(err) {
			class = fault.ClassOf(err)
			break
		}
	}
	return fault.As(class, errors.Join(errs...))
}
