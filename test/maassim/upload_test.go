package maassim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/publish/maas"
	"github.com/esxid/esxid/test/maassim"
)

// The images of these tests are five chunks long, the last one short.
const (
	chunkSize = 1 << 10
	imageSize = 4*chunkSize + 300
)

// quick are limits under which nothing waits noticeably.
var quick = maas.Limits{
	Answer: 10 * time.Second, Chunk: 10 * time.Second, Final: 10 * time.Second,
	Settle: 5 * time.Millisecond, Sync: 50 * time.Millisecond,
	RetryFirst: time.Millisecond, RetryMax: 4 * time.Millisecond, RetryFor: 10 * time.Second,
}

// rig is a stand-in on a loopback port and what a client needs to use it.
type rig struct {
	*maassim.Sim
	t    *testing.T
	url  string
	dir  string
	said []string // every error text seen

	limits maas.Limits
}

func start(t *testing.T, o maassim.Options) *rig {
	t.Helper()
	o.Dir = t.TempDir()
	o.SlowFinal, o.SyncDelay = 20*time.Millisecond, 20*time.Millisecond
	sim, err := maassim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	return &rig{Sim: sim, t: t, url: srv.URL + "/MAAS", dir: t.TempDir(), limits: quick}
}

func (r *rig) client() *maas.Client {
	r.t.Helper()
	key := filepath.Join(r.dir, "key")
	if err := os.WriteFile(key, []byte(r.AdminKey()+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	c, err := maas.New(config.Target{Type: config.TargetMAAS, Name: "lab", URL: r.url, APIKeyFile: key, ChunkSize: chunkSize})
	if err != nil {
		r.t.Fatal(err)
	}
	c.Limits = r.limits
	return c
}

// publish runs a new client, as a new process would, and keeps its error's text.
func (r *rig) publish(ctx context.Context, img publish.Image, progress func(done, total int64)) (publish.Result, error) {
	r.t.Helper()
	res, err := r.client().Publish(ctx, img, progress)
	if err != nil {
		r.said = append(r.said, err.Error())
	}
	return res, err
}

// image writes an image of random bytes.
func (r *rig) image(size int) publish.Image {
	r.t.Helper()
	data := make([]byte, size)
	chacha := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)})
	chacha.Read(data)
	path := filepath.Join(r.dir, fmt.Sprintf("image-%d.dd.gz", size))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return publish.Image{
		Path: path, Name: "esxi/8.0", Title: "VMware ESXi 8.0", Architecture: "amd64/generic",
		SHA256: hex.EncodeToString(sum[:]), Size: int64(size),
	}
}

// mustHave fails unless the stand-in would deploy exactly img.
func (r *rig) mustHave(img publish.Image) {
	r.t.Helper()
	for _, have := range r.Images() {
		if have.Name != img.Name {
			continue
		}
		got, err := os.ReadFile(have.Path)
		if err != nil {
			r.t.Fatal(err)
		}
		want, err := os.ReadFile(img.Path)
		if err != nil {
			r.t.Fatal(err)
		}
		if !bytes.Equal(got, want) || have.Title != img.Title {
			r.t.Fatalf("MAAS has %q of %d bytes, sha256 %s: not the image", have.Title, len(got), have.SHA256)
		}
		return
	}
	r.t.Fatal("MAAS has no complete image")
}

// mustBeRight fails if MAAS calls an image complete that is not right.
func (r *rig) mustBeRight() {
	r.t.Helper()
	if err := r.CheckImages(); err != nil {
		r.t.Fatal(err)
	}
}

// mustNotLeak fails if an error text holds a part of a key.
func (r *rig) mustNotLeak() {
	r.t.Helper()
	for _, key := range []string{r.AdminKey(), r.UserKey()} {
		for part := range strings.SplitSeq(key, ":") {
			for _, text := range r.said {
				if strings.Contains(text, part) {
					r.t.Errorf("a part of the key is in the error %q", text)
				}
			}
		}
	}
}

// count returns how many requests of that method were answered.
func (r *rig) count(method string) int {
	n := 0
	for _, q := range r.Requests() {
		if q.Method == method {
			n++
		}
	}
	return n
}

func TestUploadOnEachGeneration(t *testing.T) {
	for _, gen := range maassim.Generations {
		t.Run(gen, func(t *testing.T) {
			r := start(t, maassim.Options{Generation: gen})
			img := r.image(imageSize)
			var last int64
			res, err := r.publish(t.Context(), img, func(done, total int64) {
				if done < last || total != img.Size {
					t.Errorf("progress %d/%d after %d", done, total, last)
				}
				last = done
			})
			if err != nil {
				t.Fatal(err)
			}
			if res.Action != publish.Uploaded || res.Bytes != img.Size || last != img.Size || res.Target != "lab" {
				t.Errorf("result %+v, progress ended at %d", res, last)
			}
			r.mustHave(img)

			posts := r.count("POST")
			if res, err = r.publish(t.Context(), img, nil); err != nil || res.Action != publish.Present || res.Bytes != 0 {
				t.Errorf("second time: %+v, %v; want it present", res, err)
			}
			if r.count("POST") != posts || r.count("PUT") != 5 {
				t.Errorf("%d POSTs, %d PUTs: an image that is there was sent again", r.count("POST"), r.count("PUT"))
			}
			if left, _ := filepath.Glob(filepath.Join(r.dir, ".*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestFaults injects each fault at each chunk on each generation. Whatever
// happens, MAAS never calls a wrong image complete, and a later try without
// faults heals it.
func TestFaults(t *testing.T) {
	for _, gen := range maassim.Generations {
		for _, name := range maassim.Faults() {
			for _, chunk := range []int{0, 1, 3, 5} {
				if chunk > 0 && !maassim.AtChunk(name) {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s@%d", gen, name, chunk), func(t *testing.T) {
					t.Parallel()
					tryFaults(t, gen, false, maassim.Fault{Name: name, Chunk: chunk})
				})
			}
		}
	}
}

// TestFaultPairs injects two or three random faults, with and without keep_old,
// so that one strikes while the client is getting over another.
func TestFaultPairs(t *testing.T) {
	names := maassim.Faults()
	rng := rand.New(rand.NewPCG(8, 0))
	for i := range 100 {
		var faults []maassim.Fault
		for range 2 + rng.IntN(2) {
			faults = append(faults, maassim.Fault{Name: names[rng.IntN(len(names))], Chunk: rng.IntN(12)})
		}
		gen := maassim.Generations[rng.IntN(len(maassim.Generations))]
		if i%2 == 0 {
			gen = "3.8" // the one with the traps
		}
		t.Run(fmt.Sprintf("%s/%v", gen, faults), func(t *testing.T) {
			t.Parallel()
			tryFaults(t, gen, i%3 == 0, faults...)
		})
	}
}

// permanent are the faults a client cannot get over by itself, and the classes
// of what it says.
var permanent = map[string][]fault.Class{
	"token-revoked":   {fault.NotPermitted},
	"non-admin-key":   {fault.NotPermitted},
	"inactive-user":   {fault.NotPermitted},
	"disk-full":       {fault.CannotWrite},
	"html-answer":     {fault.Unavailable},
	"no-ubuntu-image": {fault.Config},
	"reserved-name":   {fault.Config},
	"create-down":     {fault.TryLater},
}

func tryFaults(t *testing.T, gen string, old bool, faults ...maassim.Fault) {
	r := start(t, maassim.Options{Generation: gen, Faults: faults})
	if slices.ContainsFunc(faults, func(f maassim.Fault) bool { return f.Name == "create-down" }) {
		r.limits.RetryFor = 50 * time.Millisecond // the only one that is retried in vain
	}
	img := r.image(imageSize)
	if old {
		// A working image of the same name that may be in the way.
		r.withoutFaults(func() { r.mustPublish(r.image(imageSize - 100)) })
	}
	_, err := r.publish(t.Context(), img, nil)
	r.mustBeRight()
	if err == nil {
		r.mustHave(img)
	} else {
		var classes []fault.Class
		for _, f := range faults {
			classes = append(classes, permanent[f.Name]...)
		}
		classes = append(classes, fault.TryLater)
		if len(faults) == 1 && permanent[faults[0].Name] == nil {
			t.Errorf("a passing fault was not got over: %v", err)
		}
		if !slices.Contains(classes, fault.ClassOf(err)) {
			t.Errorf("class %d of %q, want one of %v", fault.ClassOf(err), err, classes)
		}
	}
	r.ClearFaults()
	r.limits = quick
	if _, err := r.publish(t.Context(), img, nil); err != nil {
		t.Errorf("not healed by a later try: %v", err)
	} else {
		r.mustHave(img)
	}
	r.mustBeRight()
	r.mustNotLeak()
}

func (r *rig) withoutFaults(f func()) {
	restore := r.SuspendFaults()
	defer restore()
	f()
}

func (r *rig) mustPublish(img publish.Image) {
	r.t.Helper()
	if _, err := r.publish(r.t.Context(), img, nil); err != nil {
		r.t.Fatal(err)
	}
}

// TestResume interrupts an upload after each chunk; a new client goes on where
// it ended.
func TestResume(t *testing.T) {
	for _, gen := range maassim.Generations {
		for chunk := 1; chunk <= 4; chunk++ {
			t.Run(fmt.Sprintf("%s/%d", gen, chunk), func(t *testing.T) {
				t.Parallel()
				r := start(t, maassim.Options{Generation: gen})
				img := r.image(imageSize)
				ctx, cancel := context.WithCancel(t.Context())
				_, err := r.publish(ctx, img, func(done, _ int64) {
					if done == int64(chunk*chunkSize) {
						cancel()
					}
				})
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("err = %v", err)
				}
				res, err := r.publish(t.Context(), img, nil)
				if err != nil {
					t.Fatal(err)
				}
				if want := img.Size - int64(chunk*chunkSize); res.Bytes != want {
					t.Errorf("sent %d bytes, want the remaining %d", res.Bytes, want)
				}
				if r.count("POST") != 1 {
					t.Errorf("%d uploads were started", r.count("POST"))
				}
				r.mustHave(img)
			})
		}
	}
}

// TestResumeWithTwoRegions: progress counts the bytes of both regions, the
// upload goes to one.
func TestResumeWithTwoRegions(t *testing.T) {
	for _, gen := range []string{"3.6", "3.8"} {
		t.Run(gen, func(t *testing.T) {
			r := start(t, maassim.Options{Generation: gen, Faults: []maassim.Fault{{Name: "two-regions"}}})
			img := r.image(imageSize)
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := r.publish(ctx, img, func(done, _ int64) {
				if done >= 2*chunkSize {
					cancel()
				}
			}); !errors.Is(err, context.Canceled) {
				t.Fatalf("err = %v", err)
			}
			res, err := r.publish(t.Context(), img, nil)
			if err != nil || res.Bytes != img.Size-2*chunkSize {
				t.Errorf("sent %d bytes, err = %v", res.Bytes, err)
			}
			r.mustHave(img)
		})
	}
}

// TestMAASGoesDown takes the server away in the middle of an upload and brings
// it back.
func TestMAASGoesDown(t *testing.T) {
	for _, gen := range maassim.Generations {
		t.Run(gen, func(t *testing.T) {
			r := start(t, maassim.Options{Generation: gen})
			first := httptest.NewServer(r.Sim)
			t.Cleanup(first.Close)
			r.url = first.URL + "/MAAS"
			img := r.image(imageSize)
			back := make(chan error, 1)
			_, err := r.publish(t.Context(), img, func(done, _ int64) {
				if done != 2*chunkSize {
					return
				}
				first.CloseClientConnections()
				first.Close()
				go func() {
					l, err := net.Listen("tcp", first.Listener.Addr().String())
					if err == nil {
						again := &http.Server{Handler: r.Sim, ReadHeaderTimeout: time.Minute}
						t.Cleanup(func() { again.Close() })
						go again.Serve(l)
					}
					back <- err
				}()
			})
			if bound := <-back; bound != nil || err != nil {
				t.Fatalf("%v, %v", bound, err)
			}
			// On 3.8 a chunk that went into a dying connection may have done harm,
			// so another upload is the right thing to do there.
			if r.count("POST") != 1 && gen != "3.8" {
				t.Errorf("%d uploads were started for a chunk that was never stored", r.count("POST"))
			}
			r.mustHave(img)
		})
	}
}

// TestNoBlindResumeOn38: the process ends after MAAS 3.8 has removed the file
// and kept the count, and knows it. Going on at the count would complete a file
// without its beginning, and MAAS would not notice.
func TestNoBlindResumeOn38(t *testing.T) {
	for _, name := range []string{"disk-full", "internal-error-500"} {
		t.Run(name, func(t *testing.T) {
			r := start(t, maassim.Options{Generation: "3.8", Faults: []maassim.Fault{{Name: name, Chunk: 3}, {Name: "create-down", Chunk: 3}}})
			r.limits.RetryFor = 50 * time.Millisecond
			img := r.image(imageSize)
			if _, err := r.publish(t.Context(), img, nil); err == nil {
				t.Fatal("published in spite of the fault")
			}
			if n, _ := r.Received(img.Name); n != 2*chunkSize {
				t.Fatalf("MAAS counts %d bytes: the test tests nothing", n)
			}
			r.ClearFaults()
			r.mustPublish(img)
			r.mustHave(img)
		})
	}
}

// TestDamagedPrefix: up to 3.4 a new upload of the same content inherits the
// damaged bytes of the last one until the resource is deleted.
func TestDamagedPrefix(t *testing.T) {
	for _, gen := range []string{"2.9", "3.4"} {
		t.Run(gen, func(t *testing.T) {
			r := start(t, maassim.Options{Generation: gen, Faults: []maassim.Fault{{Name: "corrupt-chunk", Chunk: 2}}})
			img := r.image(imageSize)
			r.mustPublish(img)
			r.mustHave(img)
			if r.count("DELETE") != 1 {
				t.Errorf("%d DELETEs, want one", r.count("DELETE"))
			}
		})
	}
}

// TestDamagedPrefixBesideWorkingImage: an image that works is not deleted for it.
func TestDamagedPrefixBesideWorkingImage(t *testing.T) {
	r := start(t, maassim.Options{Generation: "3.4", Faults: []maassim.Fault{{Name: "corrupt-chunk", Chunk: 7}}})
	old := r.image(imageSize - 100)
	r.mustPublish(old)
	c := r.clientWith(func(t *config.Target) { t.KeepOld = true })
	_, err := c.Publish(t.Context(), r.image(imageSize), nil)
	if fault.ClassOf(err) != fault.Failed || !strings.Contains(err.Error(), "boot-resource delete") {
		t.Fatalf("err = %v, want advice to delete the resource", err)
	}
	r.mustHave(old)
	if r.count("DELETE") != 0 {
		t.Error("the resource was deleted")
	}
}

func (r *rig) clientWith(change func(*config.Target)) *maas.Client {
	r.t.Helper()
	r.client() // writes the key
	target := config.Target{Type: config.TargetMAAS, Name: "lab", URL: r.url, APIKeyFile: filepath.Join(r.dir, "key"), ChunkSize: chunkSize}
	change(&target)
	c, err := maas.New(target)
	if err != nil {
		r.t.Fatal(err)
	}
	c.Limits = r.limits
	return c
}

func TestKeepOld(t *testing.T) {
	for _, gen := range maassim.Generations {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", gen, keep), func(t *testing.T) {
				r := start(t, maassim.Options{Generation: gen})
				old, img := r.image(imageSize-100), r.image(imageSize)
				r.mustPublish(old)
				c := r.clientWith(func(t *config.Target) { t.KeepOld = keep })
				_, err := c.Publish(t.Context(), img, func(done, _ int64) {
					if done != chunkSize {
						return
					}
					// Half way: can the old image be deployed?
					if have := len(r.Images()) == 1; have != keep {
						t.Errorf("the old image is there: %v, want %v", have, keep)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				r.mustHave(img)
			})
		}
	}
}

// TestFinalChunkGetsItsTime: MAAS hashes the file before it answers the last
// chunk, so that one may take longer than others may.
func TestFinalChunkGetsItsTime(t *testing.T) {
	r := start(t, maassim.Options{Generation: "3.6", Faults: []maassim.Fault{{Name: "slow-final"}}})
	c := r.client()
	c.Limits.Answer, c.Limits.Chunk = 10*time.Millisecond, 10*time.Millisecond
	img := r.image(imageSize)
	res, err := c.Publish(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Bytes != img.Size {
		t.Errorf("only %d bytes were acknowledged: the last chunk was given up", res.Bytes)
	}
	r.mustHave(img)
}

// TestTwoImagesOfOneName: the newest set is found among many, and what others
// left unfinished is not continued.
func TestTwoImagesOfOneName(t *testing.T) {
	for _, gen := range maassim.Generations {
		t.Run(gen, func(t *testing.T) {
			r := start(t, maassim.Options{Generation: gen})
			a, b := r.image(imageSize), r.image(imageSize-100)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := r.publish(ctx, a, func(done, _ int64) {
				if done >= chunkSize {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			keeping := r.clientWith(func(t *config.Target) { t.KeepOld = true })
			for range 6 { // sets .1 to .12
				for _, img := range []publish.Image{b, a} {
					if _, err := keeping.Publish(t.Context(), img, nil); err != nil {
						t.Fatal(err)
					}
					r.mustHave(img)
				}
			}
		})
	}
}

func TestDoctor(t *testing.T) {
	tests := []struct {
		fault string
		class fault.Class
		want  string
	}{
		{"", 0, ""},
		{"non-admin-key", fault.NotPermitted, "administrator"},
		{"inactive-user", fault.NotPermitted, "inactive user"},
		{"no-ubuntu-image", fault.Config, "Ubuntu image"},
		{"clock-ahead", fault.Config, "clock is 1h0m0s behind"},
		{"html-answer", fault.Unavailable, "web page"},
	}
	for _, gen := range maassim.Generations {
		for _, tt := range tests {
			t.Run(gen+"/"+tt.fault, func(t *testing.T) {
				o := maassim.Options{Generation: gen}
				if tt.fault != "" {
					o.Faults = []maassim.Fault{{Name: tt.fault}}
				}
				r := start(t, o)
				err := r.client().Check(t.Context())
				if fault.ClassOf(err) != tt.class || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Check: %v (class %d), want %q (class %d)", err, fault.ClassOf(err), tt.want, tt.class)
				}
				if n, _ := r.Received("esxi/esxid-check"); n >= 0 {
					t.Error("Check has created a boot resource")
				}
			})
		}
	}
}
