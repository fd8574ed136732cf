package maassim

import (
	"net/http"
	"strings"
)

// imagePath is the path of an image on the host that serves deployments: up to
// 3.4 /images/esxi/amd64/generic/RELEASE/uploaded/root-dd.gz, from 3.5 with
// the name on disk after /images/.
func (s *Sim) imagePath(r *resource, f *file) string {
	system, release, _ := strings.Cut(r.Name, "/")
	path := "/images/"
	if s.gen.percent {
		path += f.OnDisk + "/"
	}
	return path + system + "/" + r.Architecture + "/" + release + "/uploaded/" + f.Filename
}

// getImage serves the newest complete set of a resource, as racks do.
func (s *Sim) getImage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	path := ""
	for _, res := range s.db.Resources {
		if set := s.newestComplete(res); set != nil && s.imagePath(res, set.File) == r.URL.Path {
			path = s.store.path(s.nameOnDisk(set.File))
		}
	}
	s.mu.Unlock()
	if path == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeFile(w, r, path)
}
