package maas

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

// TestTLS runs Check against a server whose certificate, for 127.0.0.1 and
// example.com, is signed by nobody this host knows.
func TestTLS(t *testing.T) {
	s := &scripted{}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are the point
	s.StartTLS()
	t.Cleanup(s.Close)
	plain := script(t, nil)

	dir := t.TempDir()
	ca, junk, long := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "junk.pem"), filepath.Join(dir, "long.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for path, text := range map[string][]byte{ca: cert, junk: []byte("no certificate"), long: bytes.Repeat(cert, maxCA/len(cert)+1)} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		url    string
		change func(*config.Target)
		class  fault.Class
		want   string
	}{
		{"private CA", s.URL, func(t *config.Target) { t.CAFile = ca }, 0, ""},
		{"private CA and name", s.URL, func(t *config.Target) { t.CAFile, t.ServerName = ca, "example.com" }, 0, ""},
		{"insecure", s.URL, func(t *config.Target) { t.Insecure = true }, 0, ""},
		{"unknown CA", s.URL, func(*config.Target) {}, fault.Config, "set ca_file"},
		{"wrong name", s.URL, func(t *config.Target) { t.CAFile, t.ServerName = ca, "maas.local" }, fault.Config, "server_name"},
		{"no certificate", s.URL, func(t *config.Target) { t.CAFile = junk }, fault.Config, "no certificate in PEM form"},
		{"too many certificates", s.URL, func(t *config.Target) { t.CAFile = long }, fault.Config, "has more than 4194304 bytes"},
		{"no file", s.URL, func(t *config.Target) { t.CAFile = dir }, fault.Config, "ca_file: " + dir + " is not a regular file"},
		{"missing file", s.URL, func(t *config.Target) { t.CAFile = filepath.Join(dir, "x") }, fault.Config, "ca_file: cannot open " + filepath.Join(dir, "x") + ": no such file"},
		{"http to the TLS port", strings.Replace(s.URL, "https", "http", 1), func(*config.Target) {}, fault.Config, "use https://"},
		{"https to the plain port", strings.Replace(plain.URL, "http", "https", 1), func(*config.Target) {}, fault.Config, "use http://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := newClient(t, tt.url, tt.change).Check(t.Context())
			if fault.ClassOf(err) != tt.class || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v (class %d), want %q (class %d)", err, fault.ClassOf(err), tt.want, tt.class)
			}
		})
	}
}

// TestRedirectIsNotFollowed: a followed 301 would turn the POST into a GET and
// send the key to wherever it points.
func TestRedirectIsNotFollowed(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(other.Close)
	srv := script(t, map[string][]reply{"GET version/": {{301, "text/html", "", map[string]string{"Location": other.URL + "/MAAS/"}}}})
	if err := newClient(t, srv.URL).Check(t.Context()); fault.ClassOf(err) != fault.Config {
		t.Errorf("err = %v", err)
	}
	if reached {
		t.Error("the redirect was followed")
	}
}
