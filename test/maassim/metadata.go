package maassim

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
)

// States of a machine.
const (
	Deploying        = "Deploying"
	Deployed         = "Deployed"
	FailedDeployment = "Failed deployment"
)

// Machine is a node that is being deployed, as its metadata service sees it.
type Machine struct {
	SystemID   string
	Hostname   string // fully qualified
	Key        Key    // what its curtin configuration carries
	PublicKeys []string
	VendorData string
	UserData   []byte // nil: none, so that a GET is answered with 404

	State   string // one of the above
	Netboot bool   // still boots from the network
	Events  []Event
}

// Event is a progress report of a machine.
type Event struct {
	EventType   string  `json:"event_type"`
	Origin      string  `json:"origin"`
	Name        string  `json:"name"`
	Description string  `json:"description"`
	Timestamp   float64 `json:"timestamp"`
	Result      string  `json:"result,omitempty"`
}

// AddMachine adds or replaces a machine, in the state Deploying.
func (s *Sim) AddMachine(m Machine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.State, m.Netboot, m.Events = Deploying, true, nil
	s.db.Machines = slices.DeleteFunc(s.db.Machines, func(o *Machine) bool { return o.SystemID == m.SystemID })
	s.db.Machines = append(s.db.Machines, &m)
	return s.db.save()
}

// Machine returns a copy of a machine's record; nil if there is none.
func (s *Sim) Machine(id string) *Machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machine(id)
	if m == nil {
		return nil
	}
	c := *m
	c.Events = slices.Clone(m.Events)
	return &c
}

func (s *Sim) machine(id string) *Machine {
	i := slices.IndexFunc(s.db.Machines, func(m *Machine) bool { return m.SystemID == id })
	if i < 0 {
		return nil
	}
	return s.db.Machines[i]
}

func (s *Sim) metadataRoutes() {
	node := func(pattern string, h func(http.ResponseWriter, *http.Request, *Machine)) {
		s.mux.HandleFunc(pattern, s.fromNode(h))
	}
	node("GET /MAAS/metadata/latest/meta-data/{$}", s.getIndex)
	node("GET /MAAS/metadata/latest/meta-data/{item}", s.getItem)
	node("GET /MAAS/metadata/latest/meta-data/{item}/{$}", s.getItem)
	node("GET /MAAS/metadata/latest/user-data", s.getUserData)
	node("POST /MAAS/metadata/status/{id}", s.postStatus)
	s.mux.HandleFunc("POST /MAAS/metadata/latest/by-id/{id}/{$}", s.postByID)
	s.mux.HandleFunc("POST /rig/machines", s.authenticated(s.postMachine))
	s.mux.HandleFunc("GET /rig/machines/{id}", s.authenticated(s.getMachine))
}

// fromNode lets only requests signed with a machine's key through. User keys
// are known credentials, but of no node.
func (s *Sim) fromNode(h func(http.ResponseWriter, *http.Request, *Machine)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.verify(w, r, func(consumer, token string) (string, bool, bool, any) {
			for _, m := range s.db.Machines {
				if m.Key.Consumer == consumer {
					return m.Key.Secret, true, m.Key.Token == token, m.SystemID
				}
			}
			for _, u := range s.db.Users {
				if u.Key.Consumer == consumer {
					return u.Key.Secret, true, u.Key.Token == token && !u.Revoked, ""
				}
			}
			return "", false, false, nil
		})
		if !ok {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		m := s.machine(who.(string))
		if m == nil {
			text(w, http.StatusForbidden, "Not authenticated as a known node.")
			return
		}
		h(w, r, m)
	}
}

func (s *Sim) getIndex(w http.ResponseWriter, _ *http.Request, m *Machine) {
	names := []string{"instance-id", "local-hostname", "public-keys", "vendor-data", "x509"}
	if len(m.PublicKeys) == 0 {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "public-keys" })
	}
	text(w, http.StatusOK, "%s", strings.Join(names, "\n"))
}

func (s *Sim) getItem(w http.ResponseWriter, r *http.Request, m *Machine) {
	switch r.PathValue("item") {
	case "instance-id":
		text(w, http.StatusOK, "%s", m.SystemID)
	case "local-hostname":
		text(w, http.StatusOK, "%s", m.Hostname)
	case "public-keys":
		text(w, http.StatusOK, "%s", strings.Join(m.PublicKeys, "\n"))
	case "x509":
		text(w, http.StatusOK, "")
	case "vendor-data":
		w.Header().Set("Content-Type", "application/x-yaml")
		_, _ = io.WriteString(w, m.VendorData) // the client has gone; nothing to tell
	default:
		s.notFound(w, "Unknown metadata attribute: "+r.PathValue("item"))
	}
}

// getUserData ends the deployment, whatever there is to fetch.
func (s *Sim) getUserData(w http.ResponseWriter, _ *http.Request, m *Machine) {
	if m.State == Deploying {
		m.State = Deployed
		_ = s.db.save() // only a later restart would miss it
	}
	if m.UserData == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(m.UserData)
}

// postStatus takes a progress event. A finished top-level event that failed
// fails the deployment.
func (s *Sim) postStatus(w http.ResponseWriter, r *http.Request, m *Machine) {
	if r.PathValue("id") != m.SystemID {
		text(w, http.StatusForbidden, "Not authenticated as a known node.")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var e Event
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	ascii := !slices.ContainsFunc(body, func(b byte) bool { return b > 0x7e })
	if err != nil || !ascii || e.EventType == "" || e.Origin == "" || e.Name == "" || e.Timestamp == 0 {
		text(w, http.StatusBadRequest, "Invalid status message")
		return
	}
	m.Events = append(m.Events, e)
	failed := e.EventType == "finish" && (e.Result == "FAIL" || e.Result == "FAILURE")
	if failed && !strings.Contains(e.Name, "/") && m.State == Deploying {
		m.State = FailedDeployment
	}
	_ = s.db.save() // only a later restart would miss it
	w.WriteHeader(http.StatusNoContent)
}

// postByID is anonymous: curtin's late command has no credentials.
func (s *Sim) postByID(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machine(r.PathValue("id"))
	switch {
	case m == nil:
		s.notFound(w, "No Node matches the given query.")
	case r.FormValue("op") != "netboot_off":
		text(w, http.StatusBadRequest, "Unrecognised signature: method=POST op=%s", r.FormValue("op"))
	default:
		m.Netboot = false
		_ = s.db.save() // only a later restart would miss it
		text(w, http.StatusOK, "OK")
	}
}

// postMachine is no part of MAAS: a rig in another process adds the machine it
// is going to deploy.
func (s *Sim) postMachine(w http.ResponseWriter, r *http.Request, _ *User) {
	var m Machine
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&m); err != nil || m.SystemID == "" {
		text(w, http.StatusBadRequest, "want a machine with a SystemID")
		return
	}
	if err := s.AddMachine(m); err != nil {
		text(w, http.StatusInternalServerError, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Sim) getMachine(w http.ResponseWriter, r *http.Request, _ *User) {
	m := s.Machine(r.PathValue("id"))
	if m == nil {
		text(w, http.StatusNotFound, "no such machine")
		return
	}
	m.Key = Key{}
	writeJSON(w, http.StatusOK, m)
}
