package maas

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// Check finds out whether Publish could work: address, TLS, key, right to
// change images, an architecture to upload for, and the clock. It tries each
// once and changes nothing.
func (c *Client) Check(ctx context.Context) error {
	s, err := c.connect()
	if err != nil {
		return err
	}
	defer s.close()
	err = s.check(ctx)
	if t, ok := isTransient(err); ok {
		return fault.As(fault.Unavailable, t.err)
	}
	return err
}

func (s *session) check(ctx context.Context) error {
	if err := s.greet(ctx); err != nil {
		return err
	}
	admin, err := s.whoami(ctx)
	if err != nil {
		return err
	}
	if !admin && s.version.before(3, 8) {
		return fault.New(fault.NotPermitted, "the API key belongs to a user of %s who is not an administrator: use an administrator's key", s.base)
	}
	if err := s.probe(ctx); err != nil {
		return err
	}
	return s.checkClock()
}

// probe asks MAAS to create a boot resource without telling its size and
// checksum, which MAAS refuses after it has looked at the user's rights and
// together with what else is wrong. Rights from 3.8 on and usable
// architectures can be learnt in no other way.
func (s *session) probe(ctx context.Context) error {
	a, err := s.form(ctx, url.Values{
		"name": {"esxi/esxid-check"}, "title": {"esxid-check"}, "architecture": {"amd64/generic"}, "filetype": {"ddgz"},
	})
	if err != nil {
		return err
	}
	var fields map[string][]string
	if a.status != http.StatusBadRequest || s.decode(a, &fields) != nil {
		return s.notMAAS()
	}
	if isArchitecture(fields) {
		return s.refusedForm(a)
	}
	return nil
}

func (s *session) checkClock() error {
	if s.skew == 0 {
		return nil
	}
	direction := "behind"
	if s.skew < 0 {
		direction = "ahead of"
	}
	return fault.New(fault.Config, "this host's clock is %s %s that of MAAS at %s: set it right (timedatectl set-ntp true); until then requests are signed with MAAS's time",
		s.skew.Abs().Round(10*time.Second), direction, s.base)
}
