// Package vcentersim is a small vCenter Server: as much of its REST API as it
// takes to add a host, in the form of 7.0 Update 2 and later (/api) and in that
// of earlier versions (/rest).
package vcentersim

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
)

// Options describe a vCenter Server.
type Options struct {
	Names          []string // in its certificate: DNS names and addresses
	User, Password string
	Datacenters    []string
	Inventory      []Host // at the start
	Old            bool   // has only /rest, as up to 7.0 Update 1
	// Login is how vCenter logs in to a host that is to be added. An error is why
	// it cannot.
	Login func(Host) error
}

// Host is a host in the inventory.
type Host struct {
	Name       string
	User       string // that vCenter took the host over with
	Password   string
	Thumbprint string // that the certificate was to have: "AA:BB:..."
	Folder     string
	State      string // CONNECTED, DISCONNECTED or NOT_RESPONDING
}

// Sim is a running vCenter Server.
type Sim struct {
	Options
	server *httptest.Server
	ca     []byte

	mu       sync.Mutex
	sessions []string
	hosts    []Host
}

// New starts a vCenter Server on a loopback address.
func New(o Options) (*Sim, error) {
	s := &Sim{Options: o, hosts: slices.Clone(o.Inventory)}
	ca, certificate, err := certificates(o.Names)
	if err != nil {
		return nil, err
	}
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca})
	s.server = httptest.NewUnstartedServer(s.handler())
	s.server.TLS = certificate
	s.server.Config.ErrorLog = quiet // clients that do not trust it
	s.server.StartTLS()
	return s, nil
}

// Close stops it.
func (s *Sim) Close() { s.server.Close() }

// Addr is where it listens.
func (s *Sim) Addr() net.Addr { return s.server.Listener.Addr() }

// CA is the certificate of the authority that signed its own, in PEM.
func (s *Sim) CA() []byte { return s.ca }

// Hosts returns the inventory.
func (s *Sim) Hosts() []Host {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hosts)
}

// Sessions returns how many sessions are open.
func (s *Sim) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// handler serves one of the two forms; the other's paths are unknown.
func (s *Sim) handler() http.Handler {
	mux := http.NewServeMux()
	base, session := "/api", "/api/session"
	if s.Old {
		base, session = "/rest", "/rest/com/vmware/cis/session"
	}
	mux.HandleFunc("POST "+session, s.login)
	mux.HandleFunc("DELETE "+session, s.inSession(s.logout))
	mux.HandleFunc("GET "+base+"/vcenter/datacenter", s.inSession(s.listDatacenters))
	mux.HandleFunc("GET "+base+"/vcenter/datacenter/{id}", s.inSession(s.getDatacenter))
	mux.HandleFunc("GET "+base+"/vcenter/host", s.inSession(s.listHosts))
	mux.HandleFunc("POST "+base+"/vcenter/host", s.inSession(s.createHost))
	return mux
}
