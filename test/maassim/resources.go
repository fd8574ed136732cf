package maassim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// object is a JSON object in an answer.
type object = map[string]any

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps, strings and numbers get here
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client has gone; nothing to tell
}

func (s *Sim) getVersion(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, object{
		"version": s.gen.version, "subversion": s.gen.subversion,
		"capabilities": []string{"networks-management", "static-ipaddresses", "devices-management", "storage-deployment-ubuntu"},
	})
}

// unrecognised answers an op this resource does not have.
func unrecognised(w http.ResponseWriter, r *http.Request) {
	text(w, http.StatusBadRequest, "Unrecognised signature: method=%s op=%s", r.Method, r.URL.Query().Get("op"))
}

func (s *Sim) getUsers(w http.ResponseWriter, r *http.Request, u *User) {
	if r.URL.Query().Get("op") != "whoami" {
		unrecognised(w, r)
		return
	}
	writeJSON(w, http.StatusOK, object{"username": u.Name, "is_superuser": u.Admin, "email": u.Name + "@example.com"})
}

func (s *Sim) getRegionControllers(w http.ResponseWriter, _ *http.Request, _ *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []object{}
	for i := range s.regions() {
		list = append(list, object{"system_id": fmt.Sprintf("reg%03d", i), "hostname": fmt.Sprintf("region-%d", i)})
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Sim) getRackControllers(w http.ResponseWriter, _ *http.Request, _ *User) {
	writeJSON(w, http.StatusOK, []object{{"system_id": "rac000", "hostname": "rack-0"}})
}

// getRackController answers op=list_boot_images: up to 3.4 the racks copy an
// image after it is complete; from 3.5 this is always "synced".
func (s *Sim) getRackController(w http.ResponseWriter, r *http.Request, u *User) {
	switch {
	case r.URL.Query().Get("op") != "list_boot_images":
		unrecognised(w, r)
		return
	case !s.mayEdit(w, u):
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	images, status := []object{}, "synced"
	for _, res := range s.db.Resources {
		set := s.newestComplete(res)
		if set == nil {
			continue
		}
		if !s.gen.percent && s.opts.Now().Sub(set.File.ReceivedAt) < s.opts.SyncDelay {
			status = "syncing"
			continue
		}
		images = append(images, object{"name": res.Name, "architecture": "amd64", "subarches": []string{"generic"}})
	}
	writeJSON(w, http.StatusOK, object{"images": images, "connected": true, "status": status})
}

// mayEdit answers 403 unless the user may change boot resources.
func (s *Sim) mayEdit(w http.ResponseWriter, u *User) bool {
	if u.Admin {
		return true
	}
	if s.gen.fga {
		text(w, http.StatusForbidden, "User does not have permission to perform this operation. The user should have permission 'can_edit_boot_entities'")
	} else {
		text(w, http.StatusForbidden, "This method is reserved for admin users.")
	}
	return false
}

func (s *Sim) listResources(w http.ResponseWriter, r *http.Request, _ *User) {
	q := r.URL.Query()
	if op := q.Get("op"); op == "is_importing" {
		writeJSON(w, http.StatusOK, false)
		return
	} else if op != "" {
		unrecognised(w, r)
		return
	}
	types := []string{"synced", "uploaded"}
	if !s.gen.percent {
		types = append(types, "generated")
	}
	kind := "all"
	if q.Has("type") {
		kind = q.Get("type")
	}
	if kind != "all" && !slices.Contains(types, kind) {
		text(w, http.StatusBadRequest, "'%s' is not a valid boot resource type. Available types: ['%s', '%s']", kind, types[0], types[1])
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []object{}
	if kind == "all" || kind == "synced" {
		list = append(list, object{"id": 0, "type": "Synced", "name": "ubuntu/jammy", "architecture": "amd64/ga-22.04",
			"resource_uri": "/MAAS/api/2.0/boot-resources/0/", "subarches": "generic", "title": "22.04 LTS"})
	}
	if kind == "all" || kind == "uploaded" {
		for _, res := range s.db.Resources {
			list = append(list, s.describe(res, false))
		}
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Sim) getResource(w http.ResponseWriter, r *http.Request, _ *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := strconv.Atoi(r.PathValue("id"))
	res := s.db.resource(id)
	if res == nil {
		s.notFound(w, "No BootResource matches the given query.")
		return
	}
	writeJSON(w, http.StatusOK, s.describe(res, true))
}

func (s *Sim) notFound(w http.ResponseWriter, body string) {
	if s.gen.oldWords {
		body = "Not Found"
	}
	text(w, http.StatusNotFound, "%s", body)
}

func (s *Sim) describe(r *resource, withSets bool) object {
	o := object{
		"id": r.ID, "type": "Uploaded", "name": r.Name, "architecture": r.Architecture,
		"resource_uri": fmt.Sprintf("/MAAS/api/2.0/boot-resources/%d/", r.ID),
		"subarches":    "generic", "title": r.Title,
	}
	if r.Base != "" {
		o["base_image"] = r.Base
	}
	if s.opts.Generation != "2.9" {
		o["last_deployed"] = nil
	}
	if !withSets {
		return o
	}
	sets := object{}
	for _, set := range r.Sets {
		sets[set.Version] = s.describeSet(r, set)
	}
	o["sets"] = sets
	return o
}

func (s *Sim) describeSet(r *resource, set *set) object {
	o := object{"version": set.Version, "label": "uploaded", "size": 0, "complete": false, "progress": 0.0, "files": object{}}
	f := set.File
	if f == nil {
		return o
	}
	n, all := s.synced(f), f.Size*s.regions()
	percent := 100 * float64(n) / float64(all)
	fo := object{"filename": f.Filename, "filetype": f.Filetype, "sha256": f.SHA256, "size": f.Size, "complete": n == all}
	if s.gen.percent {
		fo["filename_on_disk"] = f.OnDisk
	}
	o["size"] = f.Size
	o["files"] = object{f.Filename: fo}
	if n == all {
		o["complete"] = true
		delete(o, "progress")
		return o
	}
	o["progress"] = percent
	fo["upload_uri"] = fmt.Sprintf("/MAAS/api/2.0/boot-resources/%d/upload/%d/", r.ID, f.ID)
	switch {
	case s.gen.percent:
		fo["progress"] = percent
	case n == 0:
		fo["progress"] = 0
	default:
		fo["progress"] = float64(f.Size) / float64(n)
	}
	return o
}

func (s *Sim) postResource(w http.ResponseWriter, r *http.Request, u *User) {
	switch {
	case !s.mayEdit(w, u):
		return
	case r.URL.Query().Get("op") == "import":
		text(w, http.StatusOK, "Import of boot resources started")
		return
	case r.URL.Query().Get("op") == "stop_import":
		text(w, http.StatusOK, "Import of boot resources is being stopped")
		return
	case r.URL.Query().Get("op") != "":
		unrecognised(w, r)
		return
	case s.active(createDown):
		w.Header().Set("Retry-After", "10")
		text(w, http.StatusServiceUnavailable, "The region controller is not available.")
		return
	case s.take(create502):
		html(w, http.StatusBadGateway, "<title>502 Bad Gateway</title>")
		return
	}
	values, err := parseForm(r)
	if err != nil {
		text(w, http.StatusBadRequest, "Bad Request")
		return
	}
	lost := s.take(createLost)
	s.mu.Lock()
	defer s.mu.Unlock()
	f, errs, crash := s.validate(values)
	switch {
	case crash != "":
		text(w, http.StatusInternalServerError, "%s", crash)
	case len(errs) > 0:
		writeJSON(w, http.StatusBadRequest, errs)
	case s.otherSize(f):
		text(w, http.StatusBadRequest, "File already exists with sha256 that is of different size.")
	default:
		res := s.create(f)
		if err := s.db.save(); err != nil {
			text(w, http.StatusInternalServerError, "%v", err)
		} else if lost {
			reset(w)
		} else {
			writeJSON(w, http.StatusCreated, s.describe(res, true))
		}
	}
}

func (s *Sim) otherSize(f form) bool {
	for other := range s.db.files {
		if other.SHA256 == f.sha && other.Size != f.size {
			return true
		}
	}
	return false
}

// create adds a set to the resource of that name and architecture. Unless
// keep_old is given, all its other files go at once, and their sets stay
// behind empty. What has the same content on disk stays.
func (s *Sim) create(f form) *resource {
	var res *resource
	for _, r := range s.db.Resources {
		if r.Name == f.name && r.Architecture == f.architecture {
			res = r
		}
	}
	if res == nil {
		res = &resource{ID: s.db.nextID(), Name: f.name, Architecture: f.architecture}
		s.db.Resources = append(s.db.Resources, res)
	}
	res.Title, res.Base = f.title, f.base

	added := &file{ID: s.db.nextID(), Filename: f.filename, Filetype: f.filetype, SHA256: f.sha, Size: f.size}
	if s.gen.percent {
		added.OnDisk = s.db.onDisk(f.sha)
	} else if s.db.Blobs[f.sha] == nil {
		s.db.Blobs[f.sha] = &blob{Size: f.size}
	}
	set := &set{ID: s.db.nextID(), Version: s.nextVersion(res), File: added}
	old := res.Sets
	res.Sets = append(slices.Clone(old), set)
	if !f.keepOld {
		for _, o := range old {
			s.dropFile(o)
		}
	}
	return res
}

// nextVersion is the date, then the date with .1, .2 and so on.
func (s *Sim) nextVersion(r *resource) string {
	day := s.opts.Now().UTC().Format("20060102")
	version := day
	for n := 1; slices.ContainsFunc(r.Sets, func(x *set) bool { return x.Version == version }); n++ {
		version = fmt.Sprintf("%s.%d", day, n)
	}
	return version
}

// dropFile empties a set, and removes the bytes that no other file has.
func (s *Sim) dropFile(o *set) {
	f := o.File
	o.File = nil
	if f == nil || s.db.inUse(f.SHA256) {
		return
	}
	s.store.remove(s.nameOnDisk(f))
	delete(s.db.Blobs, f.SHA256)
}

func (s *Sim) deleteResource(w http.ResponseWriter, r *http.Request, u *User) {
	if !s.mayEdit(w, u) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := strconv.Atoi(r.PathValue("id"))
	if s.db.resource(id) == nil {
		text(w, http.StatusInternalServerError, "BootResource matching query does not exist.")
		return
	}
	s.drop(id)
	if err := s.db.save(); err != nil {
		text(w, http.StatusInternalServerError, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// drop deletes a resource with its sets and files.
func (s *Sim) drop(id int) {
	for _, set := range s.db.resource(id).Sets {
		s.dropFile(set)
	}
	s.db.Resources = slices.DeleteFunc(s.db.Resources, func(r *resource) bool { return r.ID == id })
}
