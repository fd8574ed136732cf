package maas

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

// Bounds of what is read of an answer, in bytes. A list or a resource with
// hundreds of entries has some hundred kilobytes.
const (
	maxAnswer = 8 << 20
	maxCA     = 4 << 20
)

// session is one Publish or Check: a connection, a key, and what is known
// about the MAAS at its other end. It serves one goroutine.
type session struct {
	Limits
	base    *url.URL
	key     apiKey
	http    *http.Client
	skew    time.Duration // MAAS's clock minus this host's
	version version
	regions int64 // region controllers that count in progress; 1 up to 3.4
}

// connect reads the key and the certificates. It sends nothing.
func (c *Client) connect() (*session, error) {
	key, err := readKey(c.target)
	if err != nil {
		return nil, err
	}
	conf, err := tlsConfig(c.target)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: 15 * time.Second}
	// With a TLS configuration of its own the transport speaks HTTP/1.1 only,
	// which is wanted: one request at a time on one connection, and no replay
	// of requests that a server refused to take.
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: 15 * time.Second,
		MaxIdleConns:        1,
		IdleConnTimeout:     30 * time.Second,
	}
	// A redirect would turn a POST into a GET, and take the key elsewhere.
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &session{
		Limits: c.Limits, base: c.base, key: key, regions: 1,
		http: &http.Client{Transport: transport, CheckRedirect: noRedirect},
	}, nil
}

func (s *session) close() { s.http.CloseIdleConnections() }

func tlsConfig(t config.Target) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.Insecure}
	if t.CAFile == "" {
		return conf, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	place := t.Place("ca_file")
	pem, _, err := config.ReadFile(t.CAFile, maxCA)
	if err != nil {
		return nil, fault.New(fault.Config, "%s: %w", place, err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Config, "%s: %s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", place, t.CAFile)
	}
	conf.RootCAs = roots
	return conf, nil
}

// request is one request to the API.
type request struct {
	method      string
	path        string // absolute; api() makes one
	query       string
	contentType string
	body        []byte
	anonymous   bool
	timeout     time.Duration
	sent        func() // called before the last byte of body leaves; may be nil
}

// api returns the absolute path of an API path such as "version/".
func (s *session) api(path string) string { return s.base.Path + "/api/2.0/" + path }

// answer is an answer with a status that the caller has to judge: 2xx, 400,
// 404 or 405. Everything else is an error already.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request and reads the answer. Errors are *transient if trying
// again makes sense, otherwise final and classed.
func (s *session) do(ctx context.Context, r request) (*answer, error) {
	a, err := s.once(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.status == http.StatusUnauthorized && a.saysExpired() {
		// MAAS looks at the timestamp before anything else, so the request had
		// no effect, and the answer has corrected s.skew.
		if a, err = s.once(ctx, r); err != nil {
			return nil, err
		}
	}
	return a, s.judge(r, a)
}

func (s *session) once(ctx context.Context, r request) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	target := url.URL{Scheme: s.base.Scheme, Host: s.base.Host, Path: r.path, RawQuery: r.query}
	req, err := http.NewRequestWithContext(limit, r.method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		body := &body{data: bytes.NewReader(r.body), sent: r.sent, closed: make(chan struct{})}
		// The transport may go on reading after it has an answer; the buffer
		// behind the body is used again.
		defer func() { <-body.closed }()
		req.Body, req.ContentLength = body, int64(len(r.body))
		req.Header.Set("Content-Type", r.contentType)
	}
	req.Header.Set("User-Agent", "esxid")
	req.Header.Set("Accept", "application/json, text/plain")
	if !r.anonymous {
		req.Header.Set("Authorization", s.key.authorization(time.Now().Add(s.skew)))
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, s.unreachable(ctx, limit, r, err)
	}
	defer resp.Body.Close()
	s.observe(resp.Header.Get("Date"))
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, s.unreachable(ctx, limit, r, err)
	}
	if len(text) > maxAnswer {
		return nil, fault.New(fault.Unavailable, "%s answered with more than %d bytes: it is not a MAAS", s.base, maxAnswer)
	}
	return &answer{resp.StatusCode, resp.Header, text}, nil
}

// skewed is how far the clocks may differ before requests are signed with
// MAAS's time. MAAS refuses what is 300 s in its past.
const skewed = 60 * time.Second

// observe learns MAAS's clock from an answer. Signing with the server's time
// makes a wrong clock on this host harmless; Check tells about it.
func (s *session) observe(date string) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	s.skew = time.Until(t).Round(time.Second)
	if s.skew.Abs() < skewed {
		s.skew = 0
	}
}

// body is a request body over a buffer that is used again.
type body struct {
	data   *bytes.Reader
	sent   func()
	once   sync.Once
	closed chan struct{}
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.data.Read(p)
	if n > 0 && b.data.Len() == 0 && b.sent != nil {
		b.sent()
	}
	return n, err
}

func (b *body) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// transient is a failure that says nothing about whether MAAS did what it was
// asked, or that will pass. The caller looks at MAAS's state before it goes on.
type transient struct {
	err   error
	after time.Duration // what MAAS asked to wait
	slow  bool          // MAAS may still be at work on the request
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

func isTransient(err error) (*transient, bool) {
	var t *transient
	ok := errors.As(err, &t)
	return t, ok
}
