package maas

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

// fileType is what MAAS calls a gzipped raw disk; ddgz is the name of the
// parameter that asks for it.
const fileType = "root-dd.gz"

// version is the major and minor version of a MAAS.
type version struct{ major, minor int }

func (v version) before(major, minor int) bool {
	return v.major < major || v.major == major && v.minor < minor
}

var versionForm = regexp.MustCompile(`^([0-9]{1,3})\.([0-9]{1,3})(\D|$)`)

// resource is a boot resource; what esxid does not need is left out.
type resource struct {
	ID           int64          `json:"id"`
	Name         string         `json:"name"`
	Architecture string         `json:"architecture"`
	Sets         map[string]set `json:"sets"`
}

// set is a version of a resource. An uploaded set has one file, or none when
// it was replaced.
type set struct {
	Version  string          `json:"version"`
	Complete bool            `json:"complete"`
	Progress float64         `json:"progress"` // percent of the bytes of all regions
	Files    map[string]file `json:"files"`
}

// file has a progress too, which up to 3.4 is not a percentage: only the
// set's is used.
type file struct {
	Filetype  string `json:"filetype"`
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size"`
	UploadURI string `json:"upload_uri"` // absolute path, while not complete
}

// newest returns the newest set that has a file and satisfies ok.
func (r *resource) newest(ok func(set) bool) (set, file, bool) {
	var sets []set
	for _, s := range r.Sets {
		if len(s.Files) > 0 && ok(s) {
			sets = append(sets, s)
		}
	}
	if len(sets) == 0 {
		return set{}, file{}, false
	}
	s := slices.MaxFunc(sets, func(a, b set) int { return compareVersions(a.Version, b.Version) })
	for _, f := range s.Files {
		return s, f, true
	}
	return set{}, file{}, false
}

// compareVersions orders set versions: a date, then the same date with .1, .2,
// …, .10; as text .10 would come before .2.
func compareVersions(a, b string) int {
	dateA, nA, _ := strings.Cut(a, ".")
	dateB, nB, _ := strings.Cut(b, ".")
	x, _ := strconv.Atoi(nA)
	y, _ := strconv.Atoi(nB)
	return cmp.Or(cmp.Compare(dateA, dateB), cmp.Compare(x, y), cmp.Compare(a, b))
}

// received is how many bytes of f the region that is asked has.
func (s *session) received(x set, f file) int64 {
	if x.Complete {
		return f.Size
	}
	n := math.Round(x.Progress / 100 * float64(f.Size) * float64(s.regions))
	return int64(max(0, min(n, float64(f.Size))))
}

// greet finds out what is at the other end.
func (s *session) greet(ctx context.Context) error {
	a, err := s.do(ctx, request{method: http.MethodGet, path: s.api("version/"), anonymous: true, timeout: s.Answer})
	if err != nil {
		return err
	}
	var v struct {
		Version string `json:"version"`
	}
	if a.status != http.StatusOK || s.decode(a, &v) != nil {
		return s.notMAAS()
	}
	m := versionForm.FindStringSubmatch(v.Version)
	if m == nil {
		return s.notMAAS()
	}
	s.version.major, _ = strconv.Atoi(m[1])
	s.version.minor, _ = strconv.Atoi(m[2])
	if s.version.before(2, 5) {
		return fault.New(fault.Config, "%s is MAAS %d.%d, which cannot deploy ESXi: 2.5 is the first version that can", s.base, s.version.major, s.version.minor)
	}
	return nil
}

// whoami checks the key.
func (s *session) whoami(ctx context.Context) (admin bool, err error) {
	a, err := s.do(ctx, request{method: http.MethodGet, path: s.api("users/"), query: "op=whoami", timeout: s.Answer})
	if err != nil {
		return false, err
	}
	var me struct {
		Admin bool `json:"is_superuser"`
	}
	if a.status != http.StatusOK || s.decode(a, &me) != nil {
		return false, s.notMAAS()
	}
	return me.Admin, nil
}

// countRegions learns how many region controllers there are. From 3.5 progress
// is a percentage of the bytes of all of them, and only one gets the upload.
// Where MAAS does not tell, there is one.
func (s *session) countRegions(ctx context.Context) error {
	if s.version.before(3, 5) {
		return nil
	}
	a, err := s.do(ctx, request{method: http.MethodGet, path: s.api("regioncontrollers/"), timeout: s.Answer})
	if _, again := isTransient(err); again || ctx.Err() != nil {
		return err
	}
	var list []struct{}
	if err == nil && a.status == http.StatusOK && s.decode(a, &list) == nil {
		s.regions = max(1, int64(len(list)))
	}
	return nil
}

// find returns the uploaded resource of that name and architecture with its
// sets, or nil.
func (s *session) find(ctx context.Context, name, architecture string) (*resource, error) {
	a, err := s.do(ctx, request{method: http.MethodGet, path: s.api("boot-resources/"), query: "type=uploaded", timeout: s.Answer})
	if err != nil {
		return nil, err
	}
	var list []resource
	if a.status != http.StatusOK || s.decode(a, &list) != nil {
		return nil, s.notMAAS()
	}
	for _, r := range list {
		if r.Name == name && r.Architecture == architecture {
			return s.detail(ctx, r.ID)
		}
	}
	return nil, nil
}

func (s *session) detail(ctx context.Context, id int64) (*resource, error) {
	a, err := s.do(ctx, request{method: http.MethodGet, path: s.api(fmt.Sprintf("boot-resources/%d/", id)), timeout: s.Answer})
	if err != nil {
		return nil, err
	}
	if a.status == http.StatusNotFound {
		return nil, nil
	}
	var r resource
	if a.status != http.StatusOK || s.decode(a, &r) != nil {
		return nil, s.notMAAS()
	}
	return &r, nil
}

// remove deletes a resource. MAAS answers 500 when it is gone already.
func (s *session) remove(ctx context.Context, id int64) error {
	a, err := s.do(ctx, request{method: http.MethodDelete, path: s.api(fmt.Sprintf("boot-resources/%d/", id)), timeout: s.Answer})
	if err == nil && a.status != http.StatusNoContent && a.status != http.StatusNotFound {
		return fault.New(fault.Failed, "MAAS does not delete boot resource %d (%d)%s", id, a.status, s.quote(a))
	}
	return err
}

// form posts a boot resource's parameters.
func (s *session) form(ctx context.Context, v url.Values) (*answer, error) {
	return s.do(ctx, request{
		method: http.MethodPost, path: s.api("boot-resources/"), timeout: s.Answer,
		contentType: "application/x-www-form-urlencoded", body: []byte(v.Encode()),
	})
}

// uploadPath checks the address to upload to: MAAS gives a path on the host
// the API is on, and the key must not be sent elsewhere.
func (s *session) uploadPath(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "" || u.Host != "" || u.RawQuery != "" || !strings.HasPrefix(u.Path, "/") {
		return "", fault.New(fault.Unavailable, "%s gave an upload address that is not a path", s.base)
	}
	return u.Path, nil
}
