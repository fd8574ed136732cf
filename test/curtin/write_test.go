package curtin

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/internal/publish/maas"
	"github.com/esxid/esxid/test/maassim"
)

// packed is a raw image of 24 MiB, mostly zeros, and its gzip.
func packed(t *testing.T) (raw, gz []byte) {
	t.Helper()
	raw = make([]byte, 24<<20)
	copy(raw, "first")
	copy(raw[12<<20:], "last")
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return raw, b.Bytes()
}

func serve(t *testing.T, body []byte) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
	t.Cleanup(server.Close)
	return server.URL
}

func TestWrite(t *testing.T) {
	raw, gz := packed(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, []byte("something old"), 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	if err := Write(t.Context(), serve(t, gz), disk, size, io.Discard); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(raw))
	if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("the disk does not begin with the image (%v)", err)
	}
	fi, err := f.Stat()
	if err != nil || fi.Size() != size {
		t.Errorf("the disk has %d bytes (%v), want %d", fi.Size(), err, int64(size))
	}
	if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; used > 4<<20 {
		t.Errorf("the disk's file takes %d bytes: it is not sparse", used)
	}
}

// curtin does not notice a download that was cut short; what it leads to has to
// be caught by others.
func TestWriteOfTruncatedDownload(t *testing.T) {
	_, gz := packed(t)
	disk := filepath.Join(t.TempDir(), "disk")
	var log bytes.Buffer
	if err := Write(t.Context(), serve(t, gz[:len(gz)/2]), disk, 32<<20, &log); err != nil {
		t.Errorf("%v; curtin would have gone on", err)
	}
	if !strings.Contains(log.String(), "unexpected end of file") {
		t.Errorf("zcat did not complain: %s", log.Bytes())
	}
}

func TestWriteToSmallDisk(t *testing.T) {
	raw, gz := packed(t)
	raw[len(raw)-1] = 1
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(raw)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk")
	err := Write(t.Context(), serve(t, b.Bytes()), disk, 16<<20, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("err = %v; an image of 24 MiB is on a disk of 16 MiB", err)
	}
	if err := Write(t.Context(), serve(t, gz), disk, 24<<20, io.Discard); err != nil {
		t.Error(err)
	}
}

func TestLocate(t *testing.T) {
	raw, gz := packed(t)
	path := filepath.Join(t.TempDir(), "image.dd.gz")
	if err := os.WriteFile(path, gz, 0o600); err != nil {
		t.Fatal(err)
	}
	img := publish.Image{Path: path, Name: "esxi/8.0", Title: "ESXi 8.0", Architecture: "amd64/generic",
		SHA256: fmt.Sprintf("%x", sha256.Sum256(gz)), Size: int64(len(gz))}
	for _, generation := range maassim.Generations {
		t.Run(generation, func(t *testing.T) {
			sim, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: generation})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(sim)
			defer server.Close()
			base := server.URL + "/MAAS"
			if _, err := Locate(t.Context(), base, sim.AdminKey(), img.Name); err == nil || !strings.Contains(err.Error(), "no boot resource") {
				t.Errorf("err = %v before the upload", err)
			}
			upload(t, base, sim.AdminKey(), img)
			address, err := Locate(t.Context(), base, sim.AdminKey()+"\n", img.Name)
			if err != nil {
				t.Fatal(err)
			}
			disk := filepath.Join(t.TempDir(), "disk")
			if err := Write(t.Context(), address, disk, int64(len(raw)), io.Discard); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(disk); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%s is not the image (%v)", address, err)
			}
			if _, err := Locate(t.Context(), base, "a:b:c", img.Name); err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("err = %v with a wrong key", err)
			}
		})
	}
}

func TestNewer(t *testing.T) {
	order := []string{"", "20261121.3", "20261122", "20261122.1", "20261122.9", "20261122.10"}
	for i := range order {
		for j := range order {
			if newer(order[i], order[j]) != (i > j) {
				t.Errorf("newer(%q, %q) = %v", order[i], order[j], i <= j)
			}
		}
	}
}

func upload(t *testing.T, base, key string, img publish.Image) {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := maas.New(config.Target{Type: "maas", Name: "test", URL: base, APIKeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Publish(context.Background(), img, nil); err != nil {
		t.Fatal(err)
	}
}
