// Package maassim stands in for a MAAS region controller: the part of the v2
// API that manages uploaded boot resources, the metadata service a deployed
// host talks to, and the image server a deployment downloads from.
//
// It keeps to what MAAS does on the wire, including what is awkward: where the
// bytes of an upload land and what a failed request leaves behind differ
// between the generations, progress means different things at different
// levels, and a wrong key is answered with the right one. Sources are the
// public repository canonical/maas (src/maasserver/api/boot_resources.py,
// src/maasserver/forms, src/metadataserver) and its behaviour as documented at
// maas.io; the code here is its own.
//
// Faults (see Faults) are injected by name. Image bytes are streamed to and
// from files below Options.Dir, so images may be as large as the disk; the rest
// of the state is kept in state.json there, so that a stand-in can be stopped
// and started again like a MAAS that was down.
package maassim

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// maxBody is nginx's client_max_body_size in MAAS's packages.
const maxBody = 10 << 20

// Generations are the MAAS versions that differ in behaviour, oldest first.
var Generations = []string{"2.9", "3.4", "3.6", "3.8"}

// Options configure a stand-in. Only Dir and Generation are required.
type Options struct {
	Dir        string // an existing directory for images and state
	Generation string // one of Generations
	Faults     []Fault
	Persist    bool // keep the state in Dir, and start from what is there

	Architectures []string // usable ones; nil: amd64/generic; with no-ubuntu-image: none
	Reserved      []string // names the simplestreams cache reserves, e.g. "esxi/6.7"
	MaxBody       int64    // bytes per request before a 413; 0: 10 MiB

	Now       func() time.Time // MAAS's clock; nil: time.Now
	SlowFinal time.Duration    // delay of the fault slow-final; 0: 3 s
	SyncDelay time.Duration    // until the second region or the racks have a file; 0: 2 s
}

// Sim is a MAAS. It is an http.Handler for the whole host: /MAAS/... and
// /images/....
type Sim struct {
	opts  Options
	gen   generation
	store storage
	mux   *http.ServeMux

	putMu sync.Mutex // one upload request at a time, like the row lock in MAAS
	chunk []byte     // its body

	mu     sync.Mutex // guards what follows
	db     database
	nonces map[string]bool
	faults armory
	log    []Request
}

// Request is one request the stand-in has answered.
type Request struct {
	Method, Path string
	Status       int // 0: the connection was reset
}

// generation is what differs between MAAS versions.
type generation struct {
	version    string // as version/ tells it
	subversion string
	oldWords   bool // up to 3.2: "recieved", "Not Found"
	percent    bool // from 3.5: file progress is a percentage, regions count
	fga        bool // from 3.8: permission by entitlement
}

var generations = map[string]generation{
	"2.9": {version: "2.9.2", subversion: "9165-g.c3e7848d1", oldWords: true},
	"3.4": {version: "3.4.7"},
	"3.6": {version: "3.6.5", percent: true},
	"3.8": {version: "3.8.0~beta6", percent: true, fga: true},
}

// New starts a stand-in. Users are the
// admin of AdminKey and a plain user of UserKey.
func New(o Options) (*Sim, error) {
	gen, ok := generations[o.Generation]
	if !ok {
		return nil, fmt.Errorf("no generation %q: there are %s", o.Generation, strings.Join(Generations, ", "))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SlowFinal == 0 {
		o.SlowFinal = 3 * time.Second
	}
	if o.SyncDelay == 0 {
		o.SyncDelay = 2 * time.Second
	}
	if o.MaxBody == 0 {
		o.MaxBody = maxBody
	}
	if o.Architectures == nil {
		o.Architectures = []string{"amd64/generic"}
	}
	s := &Sim{opts: o, gen: gen, nonces: map[string]bool{}}
	if err := os.MkdirAll(filepath.Join(o.Dir, "image-storage"), 0o755); err != nil {
		return nil, err
	}
	s.db.Blobs = map[string]*blob{}
	if o.Persist {
		if err := s.db.load(filepath.Join(o.Dir, "state.json")); err != nil {
			return nil, err
		}
	}
	s.store = newStorage(o.Generation, filepath.Join(o.Dir, "image-storage"))
	if err := s.arm(o.Faults); err != nil {
		return nil, err
	}
	s.addDefaultUsers()
	s.routes()
	return s, s.db.save()
}

func (s *Sim) routes() {
	s.mux = http.NewServeMux()
	api := func(pattern string, h func(http.ResponseWriter, *http.Request, *User)) {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.HandleFunc(method+" /MAAS/api/2.0/"+path+"{$}", s.authenticated(h))
	}
	s.mux.HandleFunc("GET /MAAS/api/2.0/version/{$}", s.getVersion)
	api("GET users/", s.getUsers)
	api("GET regioncontrollers/", s.getRegionControllers)
	api("GET rackcontrollers/", s.getRackControllers)
	api("GET rackcontrollers/{id}/", s.getRackController)
	api("GET boot-resources/", s.listResources)
	api("POST boot-resources/", s.postResource)
	api("GET boot-resources/{id}/", s.getResource)
	api("DELETE boot-resources/{id}/", s.deleteResource)
	api("PUT boot-resources/{id}/upload/{file}/", s.putChunk)
	s.mux.HandleFunc("GET /images/", s.getImage)
	s.metadataRoutes()
}

// ServeHTTP does what stands before MAAS's handlers: the request log, nginx's
// body limit, Django's redirect to a trailing slash.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	defer func() {
		s.mu.Lock()
		s.log = append(s.log, Request{Method: r.Method, Path: r.URL.Path, Status: rec.status})
		s.mu.Unlock()
	}()
	// Django tolerates what ServeMux would redirect.
	for strings.Contains(r.URL.Path, "//") {
		r.URL.Path = strings.ReplaceAll(r.URL.Path, "//", "/")
	}
	rec.Header().Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
	switch {
	case s.active(htmlAnswer):
		html(rec, http.StatusOK, "<title>Sign in to the corporate proxy</title>")
	case r.ContentLength > s.bodyLimit():
		html(rec, http.StatusRequestEntityTooLarge, "<title>413 Request Entity Too Large</title>")
	case strings.HasPrefix(r.URL.Path, "/MAAS/api/") && !strings.HasSuffix(r.URL.Path, "/"):
		http.Redirect(rec, r, r.URL.Path+"/", http.StatusMovedPermanently)
	default:
		rec.Header().Set("X-MAAS-API-Hash", "4dc1bd1f3b9bd1e4e7e86b1e2a8ccb0ef3bba0ee")
		s.mux.ServeHTTP(rec, r)
	}
}

func (s *Sim) bodyLimit() int64 {
	if s.active(smallBody) {
		return 16 << 10
	}
	return s.opts.MaxBody
}

// RedirectToTLS answers like the plain port of a MAAS with native TLS: a 301
// to base ("https://host:5443") for all of /MAAS but what machines use.
func (s *Sim) RedirectToTLS(base string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, plain := range []string{"/MAAS/rpc", "/MAAS/metadata", "/MAAS/boot-resources", "/images/"} {
			if strings.HasPrefix(r.URL.Path, plain) {
				s.ServeHTTP(w, r)
				return
			}
		}
		w.Header().Set("Location", base+r.URL.RequestURI())
		html(w, http.StatusMovedPermanently, "<title>301 Moved Permanently</title>")
	})
}

// Requests returns what was asked so far.
func (s *Sim) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.log...)
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// text answers the way Django's HttpResponse and piston's rc do.
func text(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, format, args...)
}

// html answers the way nginx and proxies do.
func html(w http.ResponseWriter, status int, head string) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html>\n<head>%s</head>\n<body></body>\n</html>\n", head)
}

// reset drops the connection with a TCP reset where the server allows it.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0) // a graceful close is no loss of the fault
	}
	_ = conn.Close()
}
