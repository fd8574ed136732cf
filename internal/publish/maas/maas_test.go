package maas

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

const testKey = "Consumer123456789x:TokenToken1234567y:SecretSecret1234567890abcdefghz"

// quick are limits under which nothing waits noticeably for a server that answers.
var quick = Limits{
	Answer: time.Minute, Chunk: time.Minute, Final: time.Minute,
	Settle: time.Millisecond, Sync: time.Millisecond,
	RetryFirst: time.Millisecond, RetryMax: 2 * time.Millisecond, RetryFor: 20 * time.Millisecond,
}

func keyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "maas.key")
	if err := os.WriteFile(path, []byte(testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newClient(t *testing.T, url string, change ...func(*config.Target)) *Client {
	t.Helper()
	target := config.Target{Type: config.TargetMAAS, Name: "lab", URL: url, APIKeyFile: keyFile(t)}
	for _, f := range change {
		f(&target)
	}
	c, err := New(target)
	if err != nil {
		t.Fatal(err)
	}
	c.Limits = quick
	return c
}

func newImage(t *testing.T, data string) publish.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.dd.gz")
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(data))
	return publish.Image{
		Path: path, Name: "esxi/8.0", Title: "VMware ESXi 8.0", Architecture: "amd64/generic",
		SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data)),
	}
}

// scripted is a server that answers "METHOD /path?query" as told, once per
// entry, the last one for ever. What it is not told about is a healthy MAAS
// 3.6 without any boot resource.
type scripted struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string][]reply
	asked   []*http.Request
}

type reply struct {
	status int
	kind   string
	body   string
	header map[string]string
}

func jsonReply(body string) reply { return reply{200, "application/json; charset=utf-8", body, nil} }

func textReply(status int, body string) reply {
	return reply{status, "text/plain; charset=utf-8", body, nil}
}

var healthy = map[string]reply{
	"GET version/":                      jsonReply(`{"version": "3.6.5", "subversion": "", "capabilities": []}`),
	"GET users/?op=whoami":              jsonReply(`{"username": "admin", "is_superuser": true}`),
	"GET regioncontrollers/":            jsonReply(`[{"system_id": "abc"}]`),
	"GET boot-resources/?type=uploaded": jsonReply(`[]`),
	"POST boot-resources/":              {400, "application/json", `{"sha256": ["This field is required."]}`, nil},
}

func script(t *testing.T, answers map[string][]reply) *scripted {
	t.Helper()
	s := &scripted{answers: answers}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	_, _ = io.Copy(io.Discard, r.Body)
	what := r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), "/MAAS/api/2.0/")
	a, ok := healthy[what]
	if list := s.answers[what]; len(list) > 0 {
		a, ok = list[0], true
		if len(list) > 1 {
			s.answers[what] = list[1:]
		}
	}
	if !ok {
		a = textReply(404, "Not Found: "+what)
	}
	w.Header().Set("Content-Type", a.kind)
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func mustNotLeak(t *testing.T, err error) {
	t.Helper()
	for _, part := range append(strings.Split(testKey, ":"), "base string", "Authorization Error") {
		if err != nil && strings.Contains(err.Error(), part) {
			t.Errorf("%q is in %q", part, err)
		}
	}
}

// captureOutput fails the test if anything is printed until it ends.
func captureOutput(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = f, f
	t.Cleanup(func() {
		os.Stdout, os.Stderr = stdout, stderr
		if text, err := os.ReadFile(f.Name()); err != nil || len(text) > 0 {
			t.Errorf("printed %q, %v", text, err)
		}
		f.Close()
	})
}

// TestRefusals has every answer that means something special, with the class
// and the advice that must come of it.
func TestRefusals(t *testing.T) {
	const (
		version = "GET version/"
		whoami  = "GET users/?op=whoami"
		list    = "GET boot-resources/?type=uploaded"
		post    = "POST boot-resources/"
	)
	challenge := map[string]string{"WWW-Authenticate": `OAuth realm="OAuth"`}
	unauthorized := func(body string) reply { return reply{401, "text/plain", body, challenge} }
	badForm := func(body string) reply { return reply{400, "application/json", body, nil} }
	secret := strings.Split(testKey, ":")[2]
	tests := []struct {
		name  string
		at    string
		reply reply
		class fault.Class
		want  string
	}{
		{"wrong secret", whoami, unauthorized("Authorization Error: 'Invalid signature. Expected signature base string: &" + secret + "'"), fault.NotPermitted, "third part"},
		{"revoked", whoami, unauthorized("Authorization Error: 'Invalid access token: TokenToken1234567y'"), fault.NotPermitted, "revoked"},
		{"unknown consumer", whoami, unauthorized("Authorization Error: Invalid API key."), fault.NotPermitted, "another MAAS"},
		{"header stripped", whoami, textReply(401, "Forbidden"), fault.NotPermitted, "Authorization header"},
		{"clock", whoami, unauthorized("Authorization Error: 'Expired timestamp: given 1 and now 999 has a greater difference than threshold 300'"), fault.Config, "clock"},
		{"replayed", whoami, unauthorized("Authorization Error: 'Nonce already used: x'"), fault.TryLater, "same request twice"},
		{"candid", whoami, reply{401, "application/json", "{}", map[string]string{"WWW-Authenticate": "Macaroon realm=x"}}, fault.NotPermitted, "external login service"},
		{"not an admin, 3.x", post, textReply(403, "This method is reserved for admin users."), fault.NotPermitted, "not an administrator"},
		{"not an admin, 3.8", post, textReply(403, "User does not have permission to perform this operation. The user should have permission 'can_edit_boot_entities'"), fault.NotPermitted, "can_edit_boot_entities"},
		{"inactive", whoami, textReply(403, "User is not allowed access to this API."), fault.NotPermitted, "inactive user"},
		{"other 403 that repeats the key", whoami, textReply(403, "no "+testKey), fault.NotPermitted, "[redacted]"},
		{"no Ubuntu", post, badForm(`{"architecture": ["'amd64/generic' is not a valid architecture.  It should be one of: ''."]}`), fault.Config, "Ubuntu image"},
		{"reserved", post, badForm(`{"name": ["esxi/8.0 is a reserved name"]}`), fault.Config, "naming.name"},
		{"old MAAS", post, badForm(`{"name": ["Unsupport operating system esxi, supported operating systems: ['ubuntu']"]}`), fault.Config, "2.5"},
		{"other form error", post, badForm(`{"title": ["no"]}`), fault.Failed, `"title": ["no"]`},
		{"sha of another size", post, textReply(400, "File already exists with sha256 that is of different size."), fault.Failed, "different size"},
		{"disk full at the start", post, textReply(500, "[Errno 28] No space left on device"), fault.CannotWrite, "disk of the MAAS"},
		{"POST became GET", post, jsonReply("[]"), fault.Unavailable, "answered 200 to the creation"},
		{"500 for long", post, textReply(500, "boom"), fault.TryLater, "500: boom"},
		{"503 for long", list, reply{503, "text/plain", "busy", map[string]string{"Retry-After": "10"}}, fault.TryLater, "try again later"},
		{"502 page", list, reply{502, "text/html", "<html>secret page</html>", nil}, fault.TryLater, "answered 502;"},
		{"web page", version, reply{200, "text/html", "<html></html>", nil}, fault.Unavailable, "web page"},
		{"web page later", list, reply{200, "text/html", "<html></html>", nil}, fault.Unavailable, "web page"},
		{"something else", version, textReply(404, "no such file"), fault.Unavailable, "web page"},
		{"no JSON", version, jsonReply("{"), fault.Unavailable, "web page"},
		{"odd version", version, jsonReply(`{"version": "latest"}`), fault.Unavailable, "web page"},
		{"ancient", version, jsonReply(`{"version": "2.4.2"}`), fault.Config, "MAAS 2.4"},
		{"too much", version, jsonReply(`{"version": "` + strings.Repeat("3", maxAnswer) + `"}`), fault.Unavailable, "more than"},
		{"TLS", version, reply{301, "text/html", "", map[string]string{"Location": "https://maas.example.com:5443/MAAS/api/2.0/version/"}}, fault.Config, "https://maas.example.com:5443/MAAS"},
		{"other redirect", version, reply{302, "text/html", "", map[string]string{"Location": "http://login.example.com/"}}, fault.Config, "not followed"},
		{"TLS only, nginx", version, reply{400, "text/html", "<html><h1>400</h1>The plain HTTP request was sent to HTTPS port</html>", nil}, fault.Config, "https://"},
		{"proxy login", version, reply{407, "text/html", "", nil}, fault.Config, "no_proxy"},
		{"413", post, reply{413, "text/html", "<html>413</html>", nil}, fault.Config, "chunk_size"},
		{"teapot", list, textReply(418, "I am a teapot\x1b[31m"), fault.Failed, "418: I am a teapot[31m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			captureOutput(t)
			srv := script(t, map[string][]reply{tt.at: {tt.reply}})
			_, err := newClient(t, srv.URL+"/MAAS").Publish(t.Context(), newImage(t, "image"), nil)
			if fault.ClassOf(err) != tt.class || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("err = %v (class %d), want %q (class %d)", err, fault.ClassOf(err), tt.want, tt.class)
			}
			mustNotLeak(t, err)
		})
	}
}

// TestExpiredOnce: the clock jumps between two requests; the refused one is
// signed again with MAAS's time.
func TestExpiredOnce(t *testing.T) {
	future := time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)
	expired := reply{401, "text/plain", "Authorization Error: 'Expired timestamp: given 1 and now 7201 has a greater difference than threshold 300'", map[string]string{"Date": future}}
	srv := script(t, map[string][]reply{"GET users/?op=whoami": {expired, healthy["GET users/?op=whoami"]}})
	if err := newClient(t, srv.URL).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var stamps []string
	for _, r := range srv.asked {
		if r.URL.Path == "/MAAS/api/2.0/users/" {
			_, rest, _ := strings.Cut(r.Header.Get("Authorization"), `oauth_timestamp="`)
			stamp, _, _ := strings.Cut(rest, `"`)
			stamps = append(stamps, stamp)
		}
	}
	if len(stamps) != 2 || stamps[1] < fmt.Sprint(time.Now().Add(119*time.Minute).Unix()) {
		t.Errorf("timestamps %v, want the second two hours ahead", stamps)
	}
}

// TestAuthorization has the header MAAS wants: each value percent-encoded,
// the signature twice, a nonce of its own, no redirect to the client's URL.
func TestAuthorization(t *testing.T) {
	k := apiKey{"C 1", "T/2", "S%3&"}
	a, b := k.authorization(time.Unix(1700000000, 0)), k.authorization(time.Unix(1700000000, 0))
	nonce := func(h string) string {
		_, rest, _ := strings.Cut(h, `oauth_nonce="`)
		n, _, _ := strings.Cut(rest, `"`)
		return n
	}
	want := `OAuth oauth_consumer_key="C%201", oauth_token="T%2F2", oauth_signature_method="PLAINTEXT", ` +
		`oauth_signature="%26S%25253%2526", oauth_timestamp="1700000000", oauth_nonce="` + nonce(a) + `", oauth_version="1.0"`
	if a != want {
		t.Errorf("got  %s\nwant %s", a, want)
	}
	if nonce(a) == nonce(b) || len(nonce(a)) < 20 {
		t.Errorf("nonces %q and %q", nonce(a), nonce(b))
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct{ name, path, want string }{
		{"good", write("good", "a:b:c\n", 0o640), ""},
		{"no newline", write("bare", "a:b:c", 0o600), ""},
		{"windows newline", write("crlf", "a:b:c\r\n", 0o600), ""},
		{"two parts", write("two", "SECRETa:SECRETb\n", 0o600), "three parts"},
		{"four parts", write("four", "SECRETa:b:c:d\n", 0o600), "three parts"},
		{"empty part", write("empty", "SECRETa::c\n", 0o600), "three parts"},
		{"two lines", write("lines", "SECRETa:b:c\na:b:c\n", 0o600), "three parts"},
		{"blank", write("blank", "SECRETa:b:c d\n", 0o600), "three parts"},
		{"nothing", write("nothing", "", 0o600), "three parts"},
		{"long", write("long", strings.Repeat("SECRET", 2000)+":b:c", 0o600), "has more than 4096 bytes"},
		{"world-readable", write("open", "SECRETa:b:c\n", 0o644), "chmod 0640"},
		{"missing", filepath.Join(dir, "missing"), "api_key_file: cannot open " + filepath.Join(dir, "missing") + ": no such file"},
		{"directory", dir, "not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key, err := readKey(config.Target{APIKeyFile: tt.path})
			if tt.want == "" {
				if err != nil || key != (apiKey{"a", "b", "c"}) {
					t.Errorf("%v, %v", key, err)
				}
				return
			}
			if fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("credential", func(t *testing.T) {
		t.Setenv("CREDENTIALS_DIRECTORY", "")
		if _, err := readKey(config.Target{}); fault.ClassOf(err) != fault.Config ||
			!strings.Contains(err.Error(), "set api_key_file for this target, or have the service publish: esxid republish BUILD") {
			t.Errorf("by hand: %v", err)
		}
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		if _, err := readKey(config.Target{}); fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), "put it into /etc/esxid/maas.key") {
			t.Errorf("in the service: %v", err)
		}
		write(credential, "a:b:c", 0o400)
		if key, err := readKey(config.Target{}); err != nil || key.consumer != "a" {
			t.Errorf("%v, %v", key, err)
		}
	})
}

func TestParseAddress(t *testing.T) {
	tests := []struct{ in, want string }{
		{"http://maas:5240/MAAS", "http://maas:5240/MAAS"},
		{"http://maas:5240/MAAS/", "http://maas:5240/MAAS"},
		{"http://maas:5240/MAAS/api/2.0/", "http://maas:5240/MAAS"},
		{"http://maas:5240/MAAS/api/2.0", "http://maas:5240/MAAS"},
		{"https://maas.example.com:5443/MAAS", "https://maas.example.com:5443/MAAS"},
		{"http://maas:5240", "http://maas:5240/MAAS"},
		{"http://[fd00::1]:5240/", "http://[fd00::1]:5240/MAAS"},
		{"https://proxy/site-a/MAAS/", "https://proxy/site-a/MAAS"},
		{"maas:5240/MAAS", ""},
		{"ftp://maas/MAAS", ""},
		{"http://", ""},
		{"http://user:SECRET@maas/MAAS", ""},
		{"http://maas/MAAS?key=SECRET", ""},
		{"http://maas:port/SECRET", ""},
		{"", ""},
	}
	for _, tt := range tests {
		u, err := parseAddress(tt.in)
		switch {
		case tt.want != "" && (err != nil || u.String() != tt.want):
			t.Errorf("parseAddress(%q) = %v, %v, want %s", tt.in, u, err, tt.want)
		case tt.want == "" && (fault.ClassOf(err) != fault.Config || strings.Contains(err.Error(), "SECRET")):
			t.Errorf("parseAddress(%q) = %v, %v, want an error", tt.in, u, err)
		}
	}
}

func TestVersionsAreOrdered(t *testing.T) {
	order := []string{"20251231.12", "20260301", "20260301.1", "20260301.2", "20260301.9", "20260301.10", "20260302"}
	for i, a := range order {
		for j, b := range order {
			if got := compareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("compareVersions(%s, %s) = %d", a, b, got)
			}
		}
	}
}

// TestDown: nothing listens. Check says so at once, Publish tries for a while.
func TestDown(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	c := newClient(t, srv.URL+"/MAAS")
	if err := c.Check(t.Context()); fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "cannot reach MAAS at "+srv.URL) {
		t.Errorf("Check: %v", err)
	}
	_, err := c.Publish(t.Context(), newImage(t, "image"), nil)
	if fault.ClassOf(err) != fault.TryLater || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Publish: %v", err)
	}
}

func TestSilentServer(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })
	c := newClient(t, srv.URL)
	c.Limits.Answer = 10 * time.Millisecond
	_, err := c.Publish(t.Context(), newImage(t, "image"), nil)
	if fault.ClassOf(err) != fault.TryLater || !strings.Contains(err.Error(), "no answer to a GET within 10ms") {
		t.Errorf("err = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Publish(ctx, newImage(t, "image"), nil); !strings.Contains(fmt.Sprint(err), "context canceled") {
		t.Errorf("err = %v", err)
	}
}

// TestHostileUploadAddress: the key is not sent to another host.
func TestHostileUploadAddress(t *testing.T) {
	img := newImage(t, "image")
	for _, uri := range []string{"http://evil.example.com/x/", "//evil.example.com/x/", "x/", "/x/?a=b", "%zz"} {
		detail := fmt.Sprintf(`{"id": 1, "name": "esxi/8.0", "architecture": "amd64/generic", "sets": {"20260101": {"version": "20260101", "complete": false, "progress": 0,
			"files": {"root-dd.gz": {"filetype": "root-dd.gz", "sha256": %q, "size": 5, "upload_uri": %q}}}}}`, img.SHA256, uri)
		srv := script(t, map[string][]reply{
			"GET boot-resources/?type=uploaded": {jsonReply(`[{"id": 1, "name": "esxi/8.0", "architecture": "amd64/generic"}]`)},
			"GET boot-resources/1/":             {jsonReply(detail)},
		})
		_, err := newClient(t, srv.URL).Publish(t.Context(), img, nil)
		if fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "not a path") {
			t.Errorf("%s: err = %v", uri, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{Limits: Limits{RetryFirst: time.Millisecond, RetryMax: 8 * time.Millisecond, RetryFor: time.Hour}}
	for i, most := range []time.Duration{1, 2, 4, 8, 8, 8} {
		started := time.Now()
		if err := b.wait(t.Context(), &transient{err: fmt.Errorf("x")}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < most*time.Millisecond/2 {
			t.Errorf("pause %d took %v, want at least half of %d ms", i, took, most)
		}
	}
	b.forward()
	started := time.Now()
	if err := b.wait(t.Context(), &transient{err: fmt.Errorf("x"), after: time.Hour}); err != nil || time.Since(started) < 8*time.Millisecond {
		t.Errorf("err = %v after %v; want the longest pause, which is shorter than what MAAS asked for", err, time.Since(started))
	}
	b.RetryFor = 0
	if err := b.wait(t.Context(), &transient{err: fmt.Errorf("the cause")}); fault.ClassOf(err) != fault.TryLater || !strings.Contains(err.Error(), "the cause; tried 2 times") {
		t.Errorf("err = %v", err)
	}
	b.RetryFor, b.RetryFirst, b.RetryMax = 2*time.Hour, time.Hour, time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.wait(ctx, &transient{err: fmt.Errorf("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
