package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/publish/maas"
	"github.com/esxid/esxid/test/maassim"
)

// serve is the server's process.
func serve(dir, generation string) error {
	data := filepath.Join(dir, "maas")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	sim, err := maassim.New(maassim.Options{Dir: data, Generation: generation})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(sim.AdminKey()), 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: sim, ReadHeaderTimeout: time.Minute}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, func() { srv.Close() })
	fmt.Printf("http://%s/MAAS\n", l.Addr())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// child is the process of the client or of the loop: it uploads, prints its
// report, and removes what it has uploaded.
func child(role string) error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return err
	}
	key, err := os.ReadFile(j.KeyFile)
	if err != nil {
		return err
	}
	loop := bare{job: j, key: strings.Split(strings.TrimSpace(string(key)), ":")}
	started, first := time.Now(), time.Time{}
	chunk := func() {
		if first.IsZero() {
			first = time.Now()
		}
	}
	if role == "loop" {
		err = loop.upload(chunk)
	} else {
		err = uploadWithClient(j, chunk)
	}
	if err != nil {
		return err
	}
	r := report{Seconds: time.Since(first).Seconds(), Before: first.Sub(started).Seconds()}
	if err := loop.remove(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func uploadWithClient(j job, chunk func()) error {
	c, err := maas.New(config.Target{Type: config.TargetMAAS, Name: "bench", URL: j.URL, APIKeyFile: j.KeyFile})
	if err != nil {
		return err
	}
	img := publish.Image{Path: j.Image, Name: j.Name, Title: "bench", Architecture: "amd64/generic", SHA256: j.SHA256, Size: j.Size}
	r, err := c.Publish(context.Background(), img, func(int64, int64) { chunk() })
	if err == nil && r.Bytes != j.Size {
		err = fmt.Errorf("uploaded %d of %d bytes", r.Bytes, j.Size)
	}
	return err
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return hex.EncodeToString(h.Sum(nil)), err
}

// bare is the least a program can do: POST, then PUTs, no check of anything.
type bare struct {
	job
	key  []string
	http http.Client
}

func (b *bare) do(method, path, kind string, body []byte) ([]byte, error) {
	base, _, _ := strings.Cut(b.URL, "/MAAS")
	req, err := http.NewRequest(method, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", fmt.Sprintf(`OAuth oauth_consumer_key="%s", oauth_token="%s", oauth_signature_method="PLAINTEXT", oauth_signature="%%26%s", oauth_timestamp="%d", oauth_nonce="%s"`,
		b.key[0], b.key[1], b.key[2], time.Now().Unix(), rand.Text()))
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	return text, err
}

const resources = "/MAAS/api/2.0/boot-resources/"

// detail is the little the loop needs of a boot resource.
type detail struct {
	ID   int
	Name string
	Sets map[string]struct {
		Files map[string]struct {
			UploadURI string `json:"upload_uri"`
		}
	}
}

func (b *bare) upload(chunk func()) error {
	form := url.Values{"name": {b.Name}, "title": {"bench"}, "architecture": {"amd64/generic"}, "filetype": {"ddgz"}, "sha256": {b.SHA256}, "size": {fmt.Sprint(b.Size)}}
	text, err := b.do("POST", resources, "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err != nil {
		return err
	}
	var d detail
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	uri := ""
	for _, s := range d.Sets {
		uri = s.Files["root-dd.gz"].UploadURI
	}
	f, err := os.Open(b.Image)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, config.DefaultChunkSize)
	for {
		n, err := io.ReadFull(f, buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		chunk()
		if _, err := b.do("PUT", uri, "application/octet-stream", buf[:n]); err != nil {
			return err
		}
	}
}

// remove deletes what was uploaded, so that each round starts alike.
func (b *bare) remove() error {
	text, err := b.do("GET", resources, "", nil)
	if err != nil {
		return err
	}
	var list []detail
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	for _, d := range list {
		if d.Name != b.Name {
			continue
		}
		if _, err := b.do("DELETE", fmt.Sprintf("%s%d/", resources, d.ID), "", nil); err != nil {
			return err
		}
	}
	return nil
}
