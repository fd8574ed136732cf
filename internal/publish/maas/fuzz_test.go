package maas

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/publish"
)

// FuzzResource: whatever a server answers as a resource, the plan stays within
// the image and only ever names a path.
func FuzzResource(f *testing.F) {
	sha := strings.Repeat("a", 64)
	f.Add(`{"id": 41, "sets": {"20260301.1": {"version": "20260301.1", "complete": false, "progress": 12.2, "files": {"root-dd.gz": {"filetype": "root-dd.gz", "sha256": "`+sha+`", "size": 1000, "upload_uri": "/MAAS/api/2.0/boot-resources/41/upload/97/"}}}}}`, 3, 8)
	f.Add(`{"sets": {"x": {"version": ".", "complete": true, "files": {"": {}}}}}`, 2, 9)
	f.Add(`{"sets": null}`, 3, 4)
	f.Add(`{"sets": {"a": {"progress": 1e308, "files": {"f": {"filetype": "root-dd.gz", "sha256": "`+sha+`", "size": 1000, "upload_uri": "//h"}}}}}`, 3, 6)
	f.Fuzz(func(t *testing.T, text string, major, minor int) {
		base, _ := parseAddress("http://maas")
		s := &session{Limits: quick, base: base, version: version{major, minor}, regions: 3}
		var r resource
		a := &answer{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: []byte(text)}
		if s.decode(a, &r) != nil {
			return
		}
		u := &upload{
			session: s, img: publish.Image{SHA256: sha, Size: 1000}, journal: &journal{},
			dead: map[string]bool{}, full: map[string]bool{},
		}
		do, at, err := u.plan(&r, time.Now())
		if err != nil || do != send {
			return
		}
		if at.offset < 0 || at.offset >= 1000 {
			t.Errorf("would send from %d of 1000", at.offset)
		}
		if path, err := s.uploadPath(at.uri); err == nil {
			target := url.URL{Scheme: "http", Host: "maas", Path: path}
			if back, err := url.Parse(target.String()); err != nil || back.Host != "maas" {
				t.Errorf("%q leads to %s", at.uri, target.String())
			}
		}
	})
}
