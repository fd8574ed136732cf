package maas

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// unreachable turns an error of the transport into a transient or a final one.
func (s *session) unreachable(ctx, limit context.Context, r request, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the method and address it repeats
	}
	if limit.Err() != nil {
		return &transient{err: fmt.Errorf("%s gave no answer to a %s within %s", s.base, r.method, r.timeout), slow: true}
	}
	var (
		unknownCA x509.UnknownAuthorityError
		wrongHost x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknownCA):
		return fault.New(fault.Config, "the certificate of %s is signed by an authority this host does not know: set ca_file to the CA's certificate", s.base)
	case errors.As(err, &wrongHost):
		return fault.New(fault.Config, "the certificate of %s is for another name: %w: use that name in url, or set server_name", s.base, err)
	case errors.As(err, &invalid):
		return fault.New(fault.Config, "the certificate of %s is not valid: %w: renew it, or correct this host's clock", s.base, err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fault.New(fault.Config, "%s does not speak TLS: use http:// in url, or the port MAAS uses for TLS (usually 5443)", s.base)
	}
	return &transient{err: fmt.Errorf("cannot reach MAAS at %s: %w: check url, and that MAAS runs there", s.base, err), slow: true}
}

// judge returns nil for an answer the caller has to look at. The text of a 401
// gets into no error: for a wrong signature it holds the secret.
func (s *session) judge(r request, a *answer) error {
	switch {
	case a.status >= 300 && a.status < 400:
		return s.redirected(a)
	case a.status == http.StatusUnauthorized:
		return s.unauthorized(r, a)
	case a.status == http.StatusForbidden:
		return s.forbidden(a)
	case a.status == http.StatusRequestEntityTooLarge:
		return fault.New(fault.Config, "a request of %d bytes is too large for %s or a proxy in front of it (413): lower chunk_size", len(r.body), s.base)
	case a.status == http.StatusProxyAuthRequired:
		return fault.New(fault.Config, "a proxy in front of %s wants a password (407): except MAAS from the proxy (no_proxy)", s.base)
	case a.status >= 400 && strings.Contains(string(a.body), "No space left on device"):
		return fault.New(fault.CannotWrite, "the disk of the MAAS region controller is full: free space where it keeps images, then publish again")
	case a.status == http.StatusBadRequest && (strings.Contains(string(a.body), "HTTP request was sent to HTTPS port") || strings.Contains(string(a.body), "HTTP request to an HTTPS server")):
		return fault.New(fault.Config, "%s speaks TLS only: use https:// in url", s.base)
	case a.status == http.StatusConflict, a.status == http.StatusTooManyRequests, a.status == http.StatusRequestTimeout, a.status >= 500:
		seconds, _ := strconv.Atoi(a.header.Get("Retry-After"))
		return &transient{
			err:   fmt.Errorf("%s answered %d%s", s.base, a.status, s.quote(a)),
			after: time.Duration(max(0, min(seconds, 3600))) * time.Second,
			slow:  a.status == http.StatusGatewayTimeout,
		}
	case a.status/100 == 2, a.status == http.StatusBadRequest, a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed:
		return nil
	}
	return fault.New(fault.Failed, "%s answered %d%s", s.base, a.status, s.quote(a))
}

func (s *session) redirected(a *answer) error {
	to, err := url.Parse(a.header.Get("Location"))
	switch {
	case err != nil:
		return s.notMAAS()
	case s.base.Scheme == "http" && to.Scheme == "https":
		better := url.URL{Scheme: "https", Host: to.Host, Path: s.base.Path}
		return fault.New(fault.Config, "MAAS at %s uses TLS: set url to %s (MAAS's usual TLS port is 5443: https://%s:5443/MAAS)", s.base, &better, s.base.Hostname())
	}
	return fault.New(fault.Config, "%s redirects to another address (%d), which is not followed: set url to the address of the MAAS region controller itself", s.base, a.status)
}

// saysExpired reports whether MAAS found the request's timestamp too old.
func (a *answer) saysExpired() bool { return strings.Contains(string(a.body), "Expired timestamp") }

func (s *session) unauthorized(r request, a *answer) error {
	text := string(a.body)
	challenge := strings.Join(a.header.Values("WWW-Authenticate"), " ")
	switch {
	case strings.Contains(strings.ToLower(challenge), "macaroon"):
		return fault.New(fault.NotPermitted, "MAAS at %s takes no API keys of local users: it uses an external login service; use the key of a user of that service", s.base)
	case strings.Contains(text, "Invalid signature"):
		return fault.New(fault.NotPermitted, "MAAS at %s refuses the API key: its third part (the secret) is wrong: copy the key again from the user's preferences in MAAS", s.base)
	case strings.Contains(text, "Invalid access token"):
		return fault.New(fault.NotPermitted, "MAAS at %s refuses the API key: it was revoked or deleted: make a new one in the user's preferences in MAAS", s.base)
	case strings.Contains(text, "Invalid API key"):
		return fault.New(fault.NotPermitted, "MAAS at %s does not know the API key: is it the key of another MAAS?", s.base)
	case strings.Contains(text, "Nonce already used"):
		return &transient{err: fmt.Errorf("%s got the same request twice: a proxy repeats requests", s.base)}
	case a.saysExpired():
		return fault.New(fault.Config, "MAAS at %s refuses requests as too old: set this host's clock right (timedatectl set-ntp true)", s.base)
	}
	return fault.New(fault.NotPermitted, "MAAS at %s did not see the API key (401): a proxy may remove the Authorization header", s.base)
}

func (s *session) forbidden(a *answer) error {
	text := string(a.body)
	switch {
	case strings.Contains(text, "reserved for admin users"):
		return fault.New(fault.NotPermitted, "the API key belongs to a user of %s who is not an administrator: use an administrator's key", s.base)
	case strings.Contains(text, "can_edit_boot_entities"):
		return fault.New(fault.NotPermitted, "the user of the API key may not change images in %s: give the user's group the entitlement can_edit_boot_entities, or use an administrator's key", s.base)
	case strings.Contains(text, "not allowed access to this API"):
		return fault.New(fault.NotPermitted, "the API key belongs to an inactive user of %s: activate the user or use another key", s.base)
	}
	return fault.New(fault.NotPermitted, "%s forbids the request (403)%s", s.base, s.quote(a))
}

func (s *session) notMAAS() error {
	return fault.New(fault.Unavailable, "%s did not answer like a MAAS but with a web page or other text: check url (it ends in /MAAS) and any proxy between", s.base)
}

// quote returns a short, printable excerpt of a plain or JSON answer for a
// message, or nothing.
func (s *session) quote(a *answer) string {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if a.status == http.StatusUnauthorized || !slices.Contains([]string{"text/plain", "application/json"}, kind) || len(a.body) == 0 {
		return ""
	}
	return ": " + s.clean(string(a.body))
}

func (s *session) clean(text string) string {
	const most = 300
	text = s.key.redact(text[:min(len(text), 64*most)])
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

// decode reads a JSON answer into v.
func (s *session) decode(a *answer, v any) error {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if kind != "application/json" || json.Unmarshal(a.body, v) != nil {
		return s.notMAAS()
	}
	return nil
}

// refusedForm explains a 400 to a POST that creates a boot resource.
func (s *session) refusedForm(a *answer) error {
	var fields map[string][]string
	if s.decode(a, &fields) != nil {
		return fault.New(fault.Failed, "MAAS refuses the image%s", s.quote(a))
	}
	all := s.clean(strings.Join(slices.Concat(fields["name"], fields["architecture"]), " "))
	switch {
	case isArchitecture(fields):
		return fault.New(fault.Config, "MAAS has no Ubuntu image for amd64, which it needs to deploy anything: import one on MAAS's Images page and wait until it is synced (%s)", all)
	case strings.Contains(all, "is a reserved name"):
		return fault.New(fault.Config, "MAAS has the name for an image of its own: change naming.name (%s)", all)
	case strings.Contains(all, "Unsupport operating system"):
		return fault.New(fault.Config, "this MAAS cannot deploy such images: MAAS 2.5 or later knows esxi (%s)", all)
	}
	return fault.New(fault.Failed, "MAAS refuses the image%s", s.quote(a))
}

// isArchitecture reports whether the architecture is among what is wrong.
func isArchitecture(fields map[string][]string) bool {
	return strings.Contains(strings.Join(fields["architecture"], " "), "is not a valid architecture")
}
