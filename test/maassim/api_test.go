package maassim_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/test/maassim"
)

// These tests hold the stand-in to what MAAS does, with hand-made requests.

type call struct {
	method, path, key string
	kind, body        string
	stamp             int64  // 0: now
	nonce             string // "": fresh
	header            string // instead of a made Authorization header
	length            int64  // instead of the body's
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) is(t *testing.T, status int, body string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, body) {
		t.Errorf("got %d %q, want %d %q", a.status, a.body, status, body)
	}
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	return v
}

func ask(t *testing.T, h http.Handler, c call) answer {
	t.Helper()
	r := httptest.NewRequest(c.method, "http://maas"+c.path, bytes.NewBufferString(c.body))
	if c.length != 0 {
		r.ContentLength = c.length
	}
	if c.kind != "" {
		r.Header.Set("Content-Type", c.kind)
	}
	parts := strings.Split(c.key, ":")
	switch {
	case c.header != "":
		r.Header.Set("Authorization", c.header)
	case len(parts) == 3:
		if c.stamp == 0 {
			c.stamp = time.Now().Unix()
		}
		if c.nonce == "" {
			c.nonce = rand.Text()
		}
		r.Header.Set("Authorization", fmt.Sprintf(`OAuth oauth_consumer_key="%s", oauth_token="%s", oauth_signature_method="PLAINTEXT", oauth_signature="%%26%s", oauth_timestamp="%d", oauth_nonce="%s"`,
			parts[0], parts[1], parts[2], c.stamp, c.nonce))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return answer{w.Code, w.Header(), string(body)}
}

func newSim(t *testing.T, o maassim.Options) *maassim.Sim {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	sim, err := maassim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

const (
	api  = "/MAAS/api/2.0/"
	list = api + "boot-resources/"
)

func TestAuthentication(t *testing.T) {
	sim := newSim(t, maassim.Options{Generation: "3.6"})
	key := sim.AdminKey()
	parts := strings.Split(key, ":")
	now := time.Now().Unix()
	get := func(c call) answer {
		c.method, c.path = "GET", api+"users/?op=whoami"
		return ask(t, sim, c)
	}
	get(call{}).is(t, 401, "Forbidden")
	get(call{header: "Bearer x"}).is(t, 401, "Forbidden")
	get(call{header: `OAuth oauth_consumer_key="x"`}).is(t, 401, "Forbidden")
	get(call{key: "x:y:z"}).is(t, 401, "Authorization Error: Invalid API key.")
	get(call{key: parts[0] + ":y:z"}).is(t, 401, "Authorization Error: 'Invalid access token: y'")
	get(call{key: key, stamp: now - 400}).is(t, 401, "Authorization Error: 'Expired timestamp: given ")
	get(call{key: key, stamp: now + 4000}).is(t, 200, `"is_superuser":true`)
	get(call{key: key, nonce: "n"}).is(t, 200, "admin")
	get(call{key: key, nonce: "n"}).is(t, 401, "Authorization Error: 'Nonce already used: n'")
	wrong := get(call{key: parts[0] + ":" + parts[1] + ":guess"})
	wrong.is(t, 401, "Invalid signature. Expected signature base string: &"+parts[2])
	if wrong.header.Get("WWW-Authenticate") != `OAuth realm="OAuth"` {
		t.Error("no WWW-Authenticate header")
	}
	get(call{key: sim.UserKey()}).is(t, 200, `"is_superuser":false`)
	sim.Revoke("admin")
	get(call{key: key}).is(t, 401, "Invalid access token")
	get(call{key: sim.RenewKey("admin")}).is(t, 200, "admin")
	ask(t, sim, call{method: "GET", path: api + "version/"}).is(t, 200, `"version":"3.6.5"`)
}

func TestFrontDoor(t *testing.T) {
	sim := newSim(t, maassim.Options{Generation: "3.6"})
	moved := ask(t, sim, call{method: "GET", path: api + "version"})
	if moved.status != 301 || moved.header.Get("Location") != api+"version/" {
		t.Errorf("got %d to %q", moved.status, moved.header.Get("Location"))
	}
	if a := ask(t, sim, call{method: "GET", path: api + "version/"}); a.header.Get("X-MAAS-API-Hash") == "" || a.header.Get("Date") == "" {
		t.Errorf("headers %v", a.header)
	}
	ask(t, sim, call{method: "PUT", path: list + "1/upload/1/", key: sim.AdminKey(), length: 10<<20 + 1}).is(t, 413, "<title>413")
	tls := sim.RedirectToTLS("https://maas:5443")
	if a := ask(t, tls, call{method: "GET", path: list}); a.status != 301 || a.header.Get("Location") != "https://maas:5443"+list {
		t.Errorf("got %d to %q", a.status, a.header.Get("Location"))
	}
	ask(t, tls, call{method: "GET", path: "/MAAS/metadata/latest/user-data"}).is(t, 401, "Forbidden")
	ask(t, sim, call{method: "GET", path: list + "?op=is_importing", key: sim.UserKey()}).is(t, 200, "false")
	ask(t, sim, call{method: "GET", path: list + "?op=x", key: sim.UserKey()}).is(t, 400, "Unrecognised signature: method=GET op=x")
	ask(t, sim, call{method: "GET", path: list + "?type=x", key: sim.UserKey()}).is(t, 400, "'x' is not a valid boot resource type. Available types: ['synced', 'uploaded']")
	ask(t, sim, call{method: "POST", path: list + "?op=import", key: sim.AdminKey()}).is(t, 200, "Import of boot resources started")
	ask(t, sim, call{method: "PATCH", path: list, key: sim.AdminKey()}).is(t, 405, "")
}

func form(sha, name string, size int, more ...string) string {
	v := url.Values{"name": {name}, "sha256": {sha}, "size": {fmt.Sprint(size)}, "architecture": {"amd64/generic"}, "filetype": {"ddgz"}, "title": {"T"}}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v.Encode()
}

func post(t *testing.T, sim *maassim.Sim, body string) answer {
	t.Helper()
	return ask(t, sim, call{method: "POST", path: list, key: sim.AdminKey(), kind: "application/x-www-form-urlencoded", body: body})
}

func TestForm(t *testing.T) {
	sim := newSim(t, maassim.Options{Generation: "3.4", Reserved: []string{"ubuntu/jammy"}})
	sha := strings.Repeat("0", 64)
	post(t, sim, form(sha, "esxi", 5)).is(t, 400, `{"name":["esxi is a reserved name"]}`)
	post(t, sim, form(sha, "centos8", 5)).is(t, 400, `centos8 is a reserved name`)
	post(t, sim, form(sha, "ubuntu/jammy", 5)).is(t, 400, `reserved name`)
	post(t, sim, form(sha, "beos/5", 5)).is(t, 400, `Unsupport operating system beos, supported operating systems: ['bootloader'`)
	post(t, sim, form(sha, "esxi/8/dell", 5)).is(t, 500, "too many values to unpack")
	post(t, sim, form(sha, "esxi/8", 5, "architecture", "i386/generic")).is(t, 400, `'i386/generic' is not a valid architecture.  It should be one of: 'amd64/generic'.`)
	post(t, sim, form(sha, "esxi/8", 5, "filetype", "iso")).is(t, 400, `"filetype":["Select a valid choice.`)
	post(t, sim, form(sha[1:], "esxi/8", 5)).is(t, 400, `at least 64 characters (it has 63)`)
	post(t, sim, form(sha, "esxi/8", 5, "size", "many")).is(t, 400, `"size":["Enter a whole number."]`)
	post(t, sim, "").is(t, 400, `"sha256":["This field is required."]`)
	post(t, sim, form(sha, "esxi/8", 5)).is(t, 201, `"filename":"root-dd.gz"`)
	post(t, sim, form(sha, "esxi/9", 6)).is(t, 400, "File already exists with sha256 that is of different size.")
	post(t, sim, form(sha, "esxi/9", 5, "filetype", "")).is(t, 201, `"filename":"root-tgz"`)
	plain := ask(t, sim, call{method: "POST", path: list, key: sim.UserKey(), kind: "application/x-www-form-urlencoded", body: form(sha, "esxi/8", 5)})
	plain.is(t, 403, "This method is reserved for admin users.")

	newer := newSim(t, maassim.Options{Generation: "3.8", Faults: []maassim.Fault{{Name: "no-ubuntu-image"}}})
	post(t, newer, form(sha, "esxi/8", 5)).is(t, 400, `It should be one of: ''.`)
	newer.ClearFaults()
	post(t, newer, form(sha, "esxi/9", 5, "filetype", "")).is(t, 201, `"filename":"root.tgz"`)
	ask(t, newer, call{method: "POST", path: list, key: newer.UserKey()}).is(t, 403, "can_edit_boot_entities")
}

// uploader sends chunks to the newest set of a resource.
type uploader struct {
	t   *testing.T
	sim *maassim.Sim
	uri string
	id  string
}

func begin(t *testing.T, sim *maassim.Sim, body string) uploader {
	t.Helper()
	d := post(t, sim, body).json(t)
	u := uploader{t: t, sim: sim, id: fmt.Sprint(d["id"])}
	f := newestFile(d)
	u.uri, _ = f["upload_uri"].(string)
	return u
}

func newestFile(detail map[string]any) map[string]any {
	s := newestSet(detail)
	for _, f := range s["files"].(map[string]any) {
		return f.(map[string]any)
	}
	return nil
}

func newestSet(detail map[string]any) map[string]any {
	best, version := map[string]any(nil), ""
	for v, s := range detail["sets"].(map[string]any) {
		if len(v) > len(version) || len(v) == len(version) && v > version {
			best, version = s.(map[string]any), v
		}
	}
	return best
}

func (u uploader) put(data string) answer {
	u.t.Helper()
	return ask(u.t, u.sim, call{method: "PUT", path: u.uri, key: u.sim.AdminKey(), kind: "application/octet-stream", body: data})
}

func (u uploader) detail() map[string]any {
	u.t.Helper()
	return ask(u.t, u.sim, call{method: "GET", path: list + u.id + "/", key: u.sim.UserKey()}).json(u.t)
}

// shaOf01 is the sha256 of "0123456789".
const shaOf01 = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"

func TestChunks(t *testing.T) {
	for _, gen := range maassim.Generations {
		t.Run(gen, func(t *testing.T) {
			sim := newSim(t, maassim.Options{Generation: gen})
			u := begin(t, sim, form(shaOf01, "esxi/8", 10))
			u.put("").is(t, 400, "Missing data.")
			for _, kind := range []string{"application/json", "application/x-www-form-urlencoded", "text/yaml"} {
				ask(t, sim, call{method: "PUT", path: u.uri, key: sim.AdminKey(), kind: kind, body: "x"}).is(t, 400, "Bad Request")
			}
			short := ask(t, sim, call{method: "PUT", path: u.uri, key: sim.AdminKey(), body: "0123", length: 5})
			if word := map[bool]string{true: "recieved", false: "received"}[gen == "2.9"]; short.status != 400 || !strings.Contains(short.body, "size of "+word+" data.") {
				t.Errorf("got %d %q", short.status, short.body)
			}
			u.put("01234").is(t, 200, "OK")

			set, file := newestSet(u.detail()), newestFile(u.detail())
			wantFile := map[bool]float64{true: 2, false: 50}[gen == "2.9" || gen == "3.4"]
			if set["progress"] != 50.0 || file["progress"] != wantFile {
				t.Errorf("progress: set %v, file %v; want 50 and %v", set["progress"], file["progress"], wantFile)
			}
			u.put("56789").is(t, 200, "OK")
			set, file = newestSet(u.detail()), newestFile(u.detail())
			if set["complete"] != true || set["progress"] != nil || file["upload_uri"] != nil {
				t.Errorf("not complete: %v", set)
			}
			u.put("x").is(t, 400, "Cannot upload to a complete file.")
			if err := sim.CheckImages(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTooMuch: what is left behind by a chunk that would exceed the size.
func TestTooMuch(t *testing.T) {
	for _, gen := range maassim.Generations {
		sim := newSim(t, maassim.Options{Generation: gen})
		u := begin(t, sim, form(shaOf01, "esxi/8", 10))
		u.put("01234").is(t, 200, "OK")
		u.put("567890").is(t, 400, map[bool]string{true: "Too much data recieved.", false: "Too much data received."}[gen == "2.9"])
		if set := newestSet(u.detail()); set["progress"] != 50.0 {
			t.Errorf("%s: progress %v, want the row unchanged", gen, set["progress"])
		}
		u.put("56789").is(t, 200, "OK")
		err := sim.CheckImages()
		if broken := err != nil; broken != (gen == "3.8") {
			t.Errorf("%s: the completed image is right: %v; from 3.8 the file is removed and the row kept", gen, err)
		}
	}
}

// TestWrongSum: what is left behind by wrong content.
func TestWrongSum(t *testing.T) {
	for _, gen := range maassim.Generations {
		sim := newSim(t, maassim.Options{Generation: gen})
		u := begin(t, sim, form(shaOf01, "esxi/8", 10))
		u.put("xxxxx").is(t, 200, "OK")
		u.put("56789").is(t, 400, "Saved content does not match given SHA256 value.")
		if set := newestSet(u.detail()); set["progress"] != 50.0 {
			t.Errorf("%s: progress %v, want the last chunk taken back", gen, set["progress"])
		}
		again := begin(t, sim, form(shaOf01, "esxi/8", 10))
		u.put("0").is(t, 404, map[bool]string{true: "Not Found", false: "No BootResourceFile matches the given query."}[gen == "2.9"])
		switch inherited := newestSet(again.detail())["progress"]; gen {
		case "2.9", "3.4":
			if inherited != 50.0 {
				t.Errorf("%s: progress %v, want the bad bytes inherited", gen, inherited)
			}
			ask(t, sim, call{method: "DELETE", path: list + u.id + "/", key: sim.AdminKey()}).is(t, 204, "")
			ask(t, sim, call{method: "DELETE", path: list + u.id + "/", key: sim.AdminKey()}).is(t, 500, "BootResource matching query does not exist.")
			again = begin(t, sim, form(shaOf01, "esxi/8", 10))
		case "3.8":
			again.put("01234").is(t, 400, "Too much data received.")
			fallthrough
		default:
			if p := newestSet(again.detail())["progress"]; p != 0.0 {
				t.Errorf("%s: progress %v, want a fresh start", gen, p)
			}
		}
		again.put("01234").is(t, 200, "OK")
		again.put("56789").is(t, 200, "OK")
		if err := sim.CheckImages(); err != nil {
			t.Errorf("%s: %v", gen, err)
		}
	}
}

// TestSameContentAgain: up to 3.4 there is nothing to upload, later there is.
func TestSameContentAgain(t *testing.T) {
	for _, gen := range maassim.Generations {
		sim := newSim(t, maassim.Options{Generation: gen})
		u := begin(t, sim, form(shaOf01, "esxi/8", 10))
		u.put("0123456789").is(t, 200, "OK")
		again := begin(t, sim, form(shaOf01, "esxi/8", 10))
		if old := gen == "2.9" || gen == "3.4"; old != (again.uri == "") {
			t.Errorf("%s: upload address %q", gen, again.uri)
		}
		if gen == "3.8" {
			again.put("0123456789").is(t, 400, "Too much data received.")
		}
		if again.uri != "" {
			again.put("0123456789").is(t, 200, "OK")
		}
		if err := sim.CheckImages(); err != nil {
			t.Errorf("%s: %v", gen, err)
		}
	}
}

func TestSetsAndKeepOld(t *testing.T) {
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	sim := newSim(t, maassim.Options{Generation: "3.6", Now: func() time.Time { return day }})
	key := sim.AdminKey()
	stamped := func(body string) map[string]any {
		return ask(t, sim, call{method: "POST", path: list, key: key, stamp: day.Unix(), kind: "application/x-www-form-urlencoded", body: body}).json(t)
	}
	var d map[string]any
	for i := range 12 {
		d = stamped(form(strings.Repeat(fmt.Sprintf("%x", i), 64), "esxi/8", 10, "keep_old", fmt.Sprint(i == 11)))
	}
	sets := d["sets"].(map[string]any)
	files := map[string]int{}
	for v, s := range sets {
		files[v] = len(s.(map[string]any)["files"].(map[string]any))
	}
	if len(sets) != 12 || files["20260301"] != 0 || files["20260301.9"] != 0 || files["20260301.10"] != 1 || files["20260301.11"] != 1 {
		t.Errorf("sets and their files: %v", files)
	}
	if _, ok := newestFile(d)["filename_on_disk"]; !ok {
		t.Error("no filename_on_disk")
	}
	all := ask(t, sim, call{method: "GET", path: list, key: key, stamp: day.Unix()})
	all.is(t, 200, `"type":"Synced"`)
	if strings.Contains(all.body, `"sets"`) {
		t.Error("the list has sets")
	}
}

// TestRestart: a stand-in that persists goes on where it was stopped.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	sim := newSim(t, maassim.Options{Generation: "3.6", Dir: dir, Persist: true})
	key := sim.AdminKey()
	u := begin(t, sim, form(shaOf01, "esxi/8", 10))
	u.put("01234").is(t, 200, "OK")

	sim = newSim(t, maassim.Options{Generation: "3.6", Dir: dir, Persist: true})
	if sim.AdminKey() != key {
		t.Error("the key has changed")
	}
	u.sim = sim
	u.put("56789").is(t, 200, "OK")
	if images := sim.Images(); len(images) != 1 || sim.CheckImages() != nil {
		t.Errorf("images %v, %v", images, sim.CheckImages())
	}
}

func TestImageServing(t *testing.T) {
	for gen, path := range map[string]string{
		"3.4": "/images/esxi/amd64/generic/8/uploaded/root-dd.gz",
		"3.6": "/images/84d8987/esxi/amd64/generic/8/uploaded/root-dd.gz",
	} {
		sim := newSim(t, maassim.Options{Generation: gen})
		u := begin(t, sim, form(shaOf01, "esxi/8", 10))
		u.put("01234").is(t, 200, "OK")
		ask(t, sim, call{method: "GET", path: path}).is(t, 404, "")
		u.put("56789").is(t, 200, "OK")
		ask(t, sim, call{method: "GET", path: path}).is(t, 200, "0123456789")
	}
}

func TestRackStatus(t *testing.T) {
	now := time.Now()
	sim := newSim(t, maassim.Options{Generation: "3.4", Now: func() time.Time { return now }, SyncDelay: time.Minute})
	u := begin(t, sim, form(shaOf01, "esxi/8", 10))
	u.put("0123456789").is(t, 200, "OK")
	status := call{method: "GET", path: api + "rackcontrollers/rac000/?op=list_boot_images", key: sim.AdminKey()}
	ask(t, sim, status).is(t, 200, `"images":[],"status":"syncing"`)
	now = now.Add(2 * time.Minute)
	status.stamp = now.Unix()
	ask(t, sim, status).is(t, 200, `"status":"synced"`)
}

func TestMetadata(t *testing.T) {
	sim := newSim(t, maassim.Options{Generation: "3.6"})
	key := maassim.Key{Consumer: "C", Token: "T", Secret: "S"}
	add := func(m maassim.Machine) {
		t.Helper()
		m.Key = key
		if err := sim.AddMachine(m); err != nil {
			t.Fatal(err)
		}
	}
	get := func(item string) answer {
		t.Helper()
		return ask(t, sim, call{method: "GET", path: "/MAAS/metadata/latest/" + item, key: key.String()})
	}
	event := func(body string) answer {
		t.Helper()
		return ask(t, sim, call{method: "POST", path: "/MAAS/metadata/status/x7dq3k", key: key.String(), body: body})
	}
	state := func(want string) {
		t.Helper()
		if got := sim.Machine("x7dq3k").State; got != want {
			t.Errorf("state %s, want %s", got, want)
		}
	}
	m := maassim.Machine{SystemID: "x7dq3k", Hostname: "esx-1.lab", PublicKeys: []string{"k1", "k2"}, VendorData: "cloud-init: x\n", UserData: []byte("#!/bin/sh\n")}
	add(m)
	get("meta-data/").is(t, 200, "instance-id\nlocal-hostname\npublic-keys\nvendor-data\nx509")
	get("meta-data/instance-id").is(t, 200, "x7dq3k")
	get("/meta-data/local-hostname").is(t, 200, "esx-1.lab")
	get("meta-data/public-keys").is(t, 200, "k1\nk2")
	get("meta-data/vendor-data").is(t, 200, "cloud-init: x")
	get("meta-data/nothing").is(t, 404, "")
	ask(t, sim, call{method: "GET", path: "/MAAS/metadata/latest/user-data", key: sim.AdminKey()}).is(t, 403, "Not authenticated as a known node.")
	ask(t, sim, call{method: "GET", path: "/MAAS/metadata/latest/user-data"}).is(t, 401, "Forbidden")
	state(maassim.Deploying)
	event(`{"event_type": "start", "origin": "esxid", "name": "storage", "description": "d", "timestamp": 1.5}`).is(t, 204, "")
	event(`{"event_type": "finish", "origin": "esxid", "name": "storage/x", "description": "d", "timestamp": 1.5, "result": "FAIL"}`).is(t, 204, "")
	event(`{"event_type": "start"}`).is(t, 400, "")
	event(`{"event_type": "start", "origin": "é", "name": "x", "timestamp": 1}`).is(t, 400, "")
	state(maassim.Deploying)
	get("user-data").is(t, 200, "#!/bin/sh\n")
	state(maassim.Deployed)
	if n := len(sim.Machine("x7dq3k").Events); n != 2 {
		t.Errorf("%d events", n)
	}

	m.UserData = nil
	add(m)
	get("user-data").is(t, 404, "")
	state(maassim.Deployed)

	add(m)
	event(`{"event_type": "finish", "origin": "esxid", "name": "firstboot", "description": "d", "timestamp": 1.5, "result": "FAIL"}`).is(t, 204, "")
	state(maassim.FailedDeployment)

	byID := call{method: "POST", path: "/MAAS/metadata/latest/by-id/x7dq3k/", kind: "application/x-www-form-urlencoded", body: "op=netboot_off"}
	ask(t, sim, byID).is(t, 200, "OK")
	if sim.Machine("x7dq3k").Netboot {
		t.Error("still boots from the network")
	}

	other := call{method: "POST", path: "/rig/machines", key: sim.AdminKey(), body: `{"SystemID": "abc", "Hostname": "h", "Key": {"Consumer": "c", "Token": "t", "Secret": "s"}}`}
	ask(t, sim, other).is(t, 204, "")
	ask(t, sim, call{method: "GET", path: "/rig/machines/abc", key: sim.AdminKey()}).is(t, 200, `"State":"Deploying"`)
	ask(t, sim, call{method: "GET", path: "/MAAS/metadata/latest/meta-data/instance-id", key: "c:t:s"}).is(t, 200, "abc")
}

func TestOptions(t *testing.T) {
	if _, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: "4.0"}); err == nil {
		t.Error("a generation that does not exist is accepted")
	}
	if _, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: "3.6", Faults: []maassim.Fault{{Name: "x"}}}); err == nil {
		t.Error("a fault that does not exist is accepted")
	}
	if f, err := maassim.ParseFault("disk-full@3"); err != nil || f != (maassim.Fault{Name: "disk-full", Chunk: 3}) {
		t.Errorf("%v, %v", f, err)
	}
	for _, s := range []string{"x@", "x@0", "x@-1", "x@y"} {
		if f, err := maassim.ParseFault(s); err == nil {
			t.Errorf("%q is read as %v", s, f)
		}
	}
}
