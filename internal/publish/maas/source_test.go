package maas

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// TestEditedImage: what is not the verified file is refused before MAAS is
// asked to create anything.
func TestEditedImage(t *testing.T) {
	tests := []struct {
		name string
		edit func(path string) error
		want string
	}{
		{"content", func(p string) error { return os.WriteFile(p, []byte("imagf"), 0o600) }, "changed after it was verified"},
		{"longer", func(p string) error { return os.WriteFile(p, []byte("image!"), 0o600) }, "changed after it was verified"},
		{"shorter", func(p string) error { return os.Truncate(p, 4) }, "changed after it was verified"},
		{"gone", os.Remove, "no such file"},
		{"directory", func(p string) error { _ = os.Remove(p); return os.Mkdir(p, 0o700) }, "not a regular file"},
		{"FIFO", func(p string) error { _ = os.Remove(p); return syscall.Mkfifo(p, 0o600) }, "not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := script(t, nil)
			img := newImage(t, "image")
			if err := tt.edit(img.Path); err != nil {
				t.Fatal(err)
			}
			_, err := newClient(t, srv.URL).Publish(t.Context(), img, nil)
			if fault.ClassOf(err) != fault.Input || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
			if len(srv.asked) != 0 {
				t.Errorf("MAAS was asked %d times", len(srv.asked))
			}
		})
	}
}

// TestEditedWhileUploaded: a change between two chunks ends the upload.
func TestEditedWhileUploaded(t *testing.T) {
	img := newImage(t, "image")
	src, err := openSource(t.Context(), img, make([]byte, 2))
	if err != nil {
		t.Fatal(err)
	}
	defer src.close()
	part := make([]byte, 2)
	if err := src.read(part, 0); err != nil || string(part) != "im" {
		t.Fatalf("%q, %v", part, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Link(img.Path, link); err != nil {
		t.Fatal(err)
	}
	if err := src.read(part, 2); err != nil {
		t.Errorf("a further link of the file counts as a change: %v", err)
	}
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(img.Path, later, later); err != nil {
		t.Fatal(err)
	}
	if err := src.read(part, 2); fault.ClassOf(err) != fault.Input {
		t.Errorf("err = %v", err)
	}
}

func TestImagesThatMAASWouldMisunderstand(t *testing.T) {
	good := newImage(t, "image")
	tests := []struct {
		name   string
		change func(*publish.Image)
	}{
		{"two slashes", func(i *publish.Image) { i.Name = "esxi/8.0/dell" }},
		{"no slash", func(i *publish.Image) { i.Name = "esxi" }},
		{"blank", func(i *publish.Image) { i.Name = "esxi/8.0 dell" }},
		{"dots", func(i *publish.Image) { i.Name = "esxi/.." }},
		{"no title", func(i *publish.Image) { i.Title = "" }},
		{"upper-case sum", func(i *publish.Image) { i.SHA256 = strings.ToUpper(i.SHA256) }},
		{"no sum", func(i *publish.Image) { i.SHA256 = "" }},
		{"no size", func(i *publish.Image) { i.Size = 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img := good
			tt.change(&img)
			if err := checkImage(img); fault.ClassOf(err) != fault.Input {
				t.Errorf("err = %v", err)
			}
		})
	}
	if err := checkImage(good); err != nil {
		t.Error(err)
	}
}

func TestJournal(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image.dd.gz")
	j := openJournal(image, "lab")
	e := entry{URI: "/u/1/", Offset: 8, Length: 4, Sent: true}
	j.note(e, true)
	if got := openJournal(image, "lab").entry; got != e {
		t.Errorf("read %+v, want %+v", got, e)
	}
	if got := openJournal(image, "other").entry; got != (entry{}) {
		t.Errorf("another target reads %+v", got)
	}
	for _, junk := range []string{"", "{", "[]", `{"offset": "x", "uri": "/u/1/"}`} {
		if err := os.WriteFile(j.path, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := openJournal(image, "lab").entry; got != (entry{}) {
			t.Errorf("%q is read as %+v", junk, got)
		}
	}
	j.clear()
	if _, err := os.Stat(j.path); err == nil {
		t.Error("not removed")
	}
	j.note(e, false)
	if _, err := os.Stat(j.path); err == nil || j.entry != e {
		t.Errorf("entry %+v, on disk: %v", j.entry, err)
	}

	sent, rest := e, entry{URI: "/u/1/", Offset: 8}
	tests := []struct {
		e      entry
		uri    string
		offset int64
		want   bool
	}{
		{sent, "/u/1/", 12, true},  // counted
		{sent, "/u/1/", 8, false},  // sent, not counted: whatever is on the disk
		{sent, "/u/1/", 0, true},   // nothing counted, nothing to lose
		{sent, "/u/1/", 10, false}, // somebody else
		{rest, "/u/1/", 8, true},   // nothing was under way
		{rest, "/u/2/", 8, false},
		{entry{}, "/u/2/", 8, false},
		{entry{}, "/u/2/", 0, true},
	}
	for _, tt := range tests {
		if got := tt.e.explains(tt.uri, tt.offset); got != tt.want {
			t.Errorf("%+v explains %d at %s: %v, want %v", tt.e, tt.offset, tt.uri, got, tt.want)
		}
	}
}

// TestPlan has the decisions one by one.
func TestPlan(t *testing.T) {
	img := publish.Image{SHA256: strings.Repeat("a", 64), Size: 1000}
	ours := func(uri string) map[string]file {
		return map[string]file{fileType: {Filetype: fileType, SHA256: img.SHA256, Size: img.Size, UploadURI: uri}}
	}
	theirs := map[string]file{fileType: {Filetype: fileType, SHA256: strings.Repeat("b", 64), Size: 7, UploadURI: "/theirs/"}}
	now := time.Now()
	tests := []struct {
		name    string
		version version
		sets    []set
		before  func(*upload)
		want    action
		offset  int64
	}{
		{"nothing there", version{3, 6}, nil, nil, create, 0},
		{"complete", version{3, 6}, []set{{Version: "20260101", Complete: true, Files: ours("")}}, nil, done, 0},
		{"complete but older", version{3, 6}, []set{{Version: "20260101.9", Complete: true, Files: ours("")}, {Version: "20260101.10", Complete: true, Files: theirs}}, nil, create, 0},
		{"complete, something unfinished after it", version{3, 6}, []set{{Version: "20260101", Complete: true, Files: ours("")}, {Version: "20260102", Files: theirs}}, nil, done, 0},
		{"half", version{3, 6}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}}, nil, send, 500},
		{"half before empty sets", version{3, 4}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}, {Version: "20260101.1"}}, nil, send, 500},
		{"half of somebody else's", version{3, 6}, []set{{Version: "20260101", Progress: 50, Files: theirs}}, nil, create, 0},
		{"a quarter of two regions", version{3, 6}, []set{{Version: "20260101", Progress: 25, Files: ours("/1/")}}, func(u *upload) { u.regions = 2 }, send, 500},
		{"all on one region of two", version{3, 6}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}}, func(u *upload) { u.regions = 2 }, await, 0},
		{"all on one region of two for long", version{3, 6}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}},
			func(u *upload) { u.regions, u.fullSince = 2, now.Add(-time.Hour) }, done, 0},
		{"all, says MAAS", version{3, 6}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}}, func(u *upload) { u.full["/1/"] = true }, await, 0},
		{"refused before", version{3, 6}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}}, func(u *upload) { u.dead["/1/"] = true }, create, 0},
		{"3.8, nothing known", version{3, 8}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}}, nil, create, 0},
		{"3.8, known", version{3, 8}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}}, func(u *upload) { u.journal.entry = entry{URI: "/1/", Offset: 500} }, send, 500},
		{"3.8, at the start", version{3, 8}, []set{{Version: "20260101", Files: ours("/1/")}}, nil, send, 0},
		{"last chunk may come", version{3, 8}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}},
			func(u *upload) {
				u.mayCome, u.lost, u.journal.entry = true, now, entry{URI: "/1/", Offset: 500, Length: 500, Sent: true}
			}, settle, 0},
		{"last chunk did not come", version{3, 6}, []set{{Version: "20260101", Progress: 50, Files: ours("/1/")}},
			func(u *upload) {
				u.mayCome, u.lost, u.journal.entry = true, now.Add(-time.Hour), entry{URI: "/1/", Offset: 500, Length: 500, Sent: true}
			}, send, 500},
		{"wrong sum twice, 3.4", version{3, 4}, []set{{Version: "20260101", Progress: 90, Files: ours("/1/")}}, func(u *upload) { u.inherited = 2 }, purge, 0},
		{"wrong sum twice, 3.6", version{3, 6}, []set{{Version: "20260101", Progress: 90, Files: ours("/1/")}}, func(u *upload) { u.inherited, u.dead["/1/"] = 2, true }, create, 0},
		{"progress beyond all bounds", version{3, 6}, []set{{Version: "20260101", Progress: 1e300, Files: ours("/1/")}}, nil, await, 0},
		{"negative progress", version{3, 6}, []set{{Version: "20260101", Progress: -5, Files: ours("/1/")}}, nil, send, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := &upload{
				session: &session{Limits: quick, version: tt.version, regions: 1}, img: img, journal: &journal{},
				dead: map[string]bool{}, full: map[string]bool{},
			}
			u.Settle, u.Sync = time.Minute, time.Minute
			if tt.before != nil {
				tt.before(u)
			}
			var r *resource
			if tt.sets != nil {
				r = &resource{ID: 1, Sets: map[string]set{}}
				for _, s := range tt.sets {
					r.Sets[s.Version] = s
				}
			}
			got, at, err := u.plan(r, now)
			if err != nil || got != tt.want || got == send && at.offset != tt.offset {
				t.Errorf("plan = %d at %d, %v; want %d at %d", got, at.offset, err, tt.want, tt.offset)
			}
		})
	}
}

// TestCountsNothing: a server that takes everything and counts nothing is not sent the
// image over and over.
func TestCountsNothing(t *testing.T) {
	img := newImage(t, "image")
	srv := script(t, map[string][]reply{
		"GET boot-resources/?type=uploaded": {jsonReply(`[{"id": 1, "name": "esxi/8.0", "architecture": "amd64/generic"}]`)},
		"GET boot-resources/1/": {jsonReply(fmt.Sprintf(`{"id": 1, "sets": {"20260101": {"version": "20260101", "complete": false, "progress": 0,
			"files": {"root-dd.gz": {"filetype": "root-dd.gz", "sha256": %q, "size": 5, "upload_uri": "/MAAS/api/2.0/u/"}}}}}`, img.SHA256))},
		"PUT u/": {textReply(200, "OK"), textReply(200, "OK"), textReply(418, "again")},
	})
	c := newClient(t, srv.URL, func(t *config.Target) { t.ChunkSize = 3 })
	_, err := c.Publish(t.Context(), img, nil)
	if fault.ClassOf(err) != fault.TryLater || !strings.Contains(err.Error(), "does not call it complete yet") {
		t.Errorf("err = %v", err)
	}
}

// TestPlanGivesUp: the number of uploads of one Publish is bounded.
func TestPlanGivesUp(t *testing.T) {
	u := &upload{session: &session{}, starts: maxStarts, setback: fmt.Errorf("the last straw")}
	if _, _, err := u.plan(nil, time.Now()); fault.ClassOf(err) != fault.TryLater || !strings.Contains(err.Error(), "the last straw") {
		t.Errorf("err = %v", err)
	}
	u.badSums = 3
	u.base, _ = parseAddress("http://maas")
	if _, _, err := u.plan(nil, time.Now()); fault.ClassOf(err) != fault.Failed || !strings.Contains(err.Error(), "damages data") {
		t.Errorf("err = %v", err)
	}
}
