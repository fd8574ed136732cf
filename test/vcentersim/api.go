package vcentersim

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// sessionHeader carries the session of a request.
const sessionHeader = "vmware-api-session-id"

// answer sends a value. The old form wraps it.
func (s *Sim) answer(w http.ResponseWriter, status int, value any) {
	if s.Old {
		status, value = http.StatusOK, map[string]any{"value": value}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has gone; nothing to tell
}

// refuse sends an error, whose kind is like "NOT_FOUND".
func (s *Sim) refuse(w http.ResponseWriter, status int, kind, format string, args ...any) {
	messages := []map[string]any{{"id": "com.vmware.example", "default_message": fmt.Sprintf(format, args...), "args": []string{}}}
	value := map[string]any{"error_type": kind, "messages": messages}
	if s.Old {
		value = map[string]any{"type": "com.vmware.vapi.std.errors." + strings.ToLower(kind), "value": map[string]any{"messages": messages}}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has gone; nothing to tell
}

func (s *Sim) login(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if !ok || user != s.User || subtle.ConstantTimeCompare([]byte(password), []byte(s.Password)) == 0 {
		s.refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Authentication required.")
		return
	}
	id := rand.Text()
	s.mu.Lock()
	s.sessions = append(s.sessions, id)
	s.mu.Unlock()
	s.answer(w, http.StatusCreated, id)
}

// inSession lets only requests of a session through.
func (s *Sim) inSession(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		known := slices.Contains(s.sessions, r.Header.Get(sessionHeader))
		s.mu.Unlock()
		if !known {
			s.refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "This method requires authentication.")
			return
		}
		h(w, r)
	}
}

func (s *Sim) logout(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = slices.DeleteFunc(s.sessions, func(id string) bool { return id == r.Header.Get(sessionHeader) })
	if s.Old {
		w.WriteHeader(http.StatusOK)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
}

// filter is whether an object of that name is asked for.
func (s *Sim) filter(r *http.Request, name string) bool {
	key := "names"
	if s.Old {
		key = "filter.names"
	}
	names := r.URL.Query()[key]
	return len(names) == 0 || slices.Contains(names, name)
}

func (s *Sim) listDatacenters(w http.ResponseWriter, r *http.Request) {
	found := []map[string]string{}
	for i, name := range s.Datacenters {
		if s.filter(r, name) {
			found = append(found, map[string]string{"name": name, "datacenter": fmt.Sprintf("datacenter-%d", i+1)})
		}
	}
	s.answer(w, http.StatusOK, found)
}

func (s *Sim) getDatacenter(w http.ResponseWriter, r *http.Request) {
	var n int
	if _, err := fmt.Sscanf(r.PathValue("id"), "datacenter-%d", &n); err != nil || n < 1 || n > len(s.Datacenters) {
		s.refuse(w, http.StatusNotFound, "NOT_FOUND", "Datacenter with identifier '%s' does not exist.", r.PathValue("id"))
		return
	}
	folder := func(kind string) string { return fmt.Sprintf("group-%s%d", kind, n) }
	s.answer(w, http.StatusOK, map[string]string{
		"name": s.Datacenters[n-1], "datastore_folder": folder("s"), "host_folder": folder("h"), "network_folder": folder("n"), "vm_folder": folder("v"),
	})
}

func (s *Sim) listHosts(w http.ResponseWriter, r *http.Request) {
	found := []map[string]string{}
	for i, h := range s.Hosts() {
		if s.filter(r, h.Name) {
			found = append(found, map[string]string{"host": fmt.Sprintf("host-%d", i+1), "name": h.Name, "connection_state": h.State, "power_state": "POWERED_ON"})
		}
	}
	s.answer(w, http.StatusOK, found)
}

// hostSpec is the body of a request to add a host.
type hostSpec struct {
	Hostname     string `json:"hostname"`
	UserName     string `json:"user_name"`
	Password     string `json:"password"`
	Folder       string `json:"folder"`
	Verification string `json:"thumbprint_verification"`
	Thumbprint   string `json:"thumbprint"`
}

var thumbprintForm = regexp.MustCompile(`^[0-9A-F]{2}(:[0-9A-F]{2}){19}$`)

func (s *Sim) createHost(w http.ResponseWriter, r *http.Request) {
	spec, err := s.readSpec(http.MaxBytesReader(w, r.Body, 1<<20))
	h := Host{Name: spec.Hostname, User: spec.UserName, Password: spec.Password, Thumbprint: spec.Thumbprint, Folder: spec.Folder, State: "CONNECTED"}
	known := slices.ContainsFunc(s.Hosts(), func(o Host) bool { return o.Name == h.Name })
	switch {
	case err != nil:
		s.refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", "%v", err)
	case !strings.HasPrefix(h.Folder, "group-h"):
		s.refuse(w, http.StatusNotFound, "NOT_FOUND", "Folder with identifier '%s' does not exist.", h.Folder)
	case spec.Verification != "THUMBPRINT" || !thumbprintForm.MatchString(h.Thumbprint):
		s.refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", "The thumbprint is missing or has another form.")
	case known:
		s.refuse(w, http.StatusBadRequest, "ALREADY_EXISTS", "The host '%s' already exists.", h.Name)
	default:
		if err := s.Login(h); err != nil {
			s.refuse(w, http.StatusBadRequest, "UNABLE_TO_ALLOCATE_RESOURCE", "Cannot complete login to the host: %v", err)
			return
		}
		s.mu.Lock()
		s.hosts = append(s.hosts, h)
		id := fmt.Sprintf("host-%d", len(s.hosts))
		s.mu.Unlock()
		s.answer(w, http.StatusCreated, id)
	}
}

// readSpec reads a body, which the old form wraps.
func (s *Sim) readSpec(body io.Reader) (spec hostSpec, err error) {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if !s.Old {
		return spec, d.Decode(&spec)
	}
	var wrapped struct {
		Spec hostSpec `json:"spec"`
	}
	err = d.Decode(&wrapped)
	return wrapped.Spec, err
}
