// Package maas publishes images as boot resources of a MAAS region controller,
// through version 2 of its REST API (https://maas.io/docs/api), which takes
// uploads in the same way from MAAS 2.5 to 3.8 and stores them in three
// different ones.
//
// MAAS keeps no session of an upload. Each chunk is appended to what the
// server has; there is no offset in the request and no way to take a chunk
// back. The client therefore never assumes what a failed request did: it looks
// at what the server counts, decides (plan.go), does one thing and looks again.
// The generations behave so:
//
//   - up to 3.4 the bytes of one sha256 are kept once, and a new upload of it
//     continues where the last one ended;
//   - from 3.5 to 3.7 the server's count is all there is to it;
//   - from 3.8 bytes are appended to the final file, whatever the count says.
//     A refused or failed chunk can remove the file and leave the count, and
//     later chunks would then complete a file whose beginning is missing
//     without its checksum being looked at. So there an upload is continued
//     only if this client knows the fate of each chunk before (journal.go).
//
// With several region controllers the bytes land on the one that takes the
// request, so url must lead to one of them and not to all in turn. The others,
// and up to 3.4 the rack controllers, copy a finished image by themselves.
//
// # keep_old
//
// Without keep_old MAAS deletes the other files of the resource when the new
// upload begins, so that the release cannot be deployed until it is complete;
// this is also what MAAS's own command line does. With it the old image works
// until the new one is complete, and stays on MAAS's disk until the resource
// is published once without keep_old or deleted.
package maas

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// Client publishes to one MAAS. It holds no connection and no secret between
// calls, so a changed key or certificate file is used from the next call on.
type Client struct {
	Limits Limits // may be changed before the first call

	target config.Target
	base   *url.URL // http(s)://host[:port]/MAAS
}

// Limits are the times a Client keeps to.
type Limits struct {
	Answer time.Duration // for an answer to anything but a chunk
	Chunk  time.Duration // for sending a chunk and its answer
	Final  time.Duration // the same for the last one: MAAS hashes the whole file before it answers
	Settle time.Duration // how long a lost answer to the last chunk may still come true
	Sync   time.Duration // how long other region controllers may take to copy the image

	RetryFirst time.Duration // pause after the first failure; it doubles
	RetryMax   time.Duration // longest pause
	RetryFor   time.Duration // give up when nothing went forward for so long
}

// DefaultLimits returns the limits New sets. MAAS's nginx waits 15 minutes for
// the answer to a last chunk.
func DefaultLimits() Limits {
	return Limits{
		Answer: 2 * time.Minute,
		Chunk:  5 * time.Minute,
		Final:  20 * time.Minute,
		Settle: time.Minute,
		Sync:   2 * time.Minute,

		RetryFirst: time.Second,
		RetryMax:   30 * time.Second,
		RetryFor:   5 * time.Minute,
	}
}

// New returns a client for a target of type maas. It reads nothing and
// connects to nothing.
func New(t config.Target) (*Client, error) {
	base, err := parseAddress(t.URL)
	if err != nil {
		return nil, err
	}
	if t.ChunkSize == 0 {
		t.ChunkSize = config.DefaultChunkSize
	}
	if t.ChunkSize < 0 || t.ChunkSize > config.MaxChunkSize {
		return nil, fault.New(fault.Config, "chunk_size: want at most %d bytes", config.MaxChunkSize)
	}
	return &Client{Limits: DefaultLimits(), target: t, base: base}, nil
}

// Name returns the target's name.
func (c *Client) Name() string { return c.target.Name }

// Address returns the configured URL.
func (c *Client) Address() string { return c.target.URL }

// parseAddress brings the forms in which people write the address of a MAAS
// into one: http://h:5240/MAAS, with a slash or /api/2.0/ behind it, or the
// bare host.
func parseAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	// The error of url.Parse repeats the address, which may hold a password.
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New(fault.Config, "url: want the address of a MAAS, such as https://maas.example.com:5443/MAAS")
	}
	path := strings.TrimRight(u.Path, "/")
	path = strings.TrimSuffix(strings.TrimSuffix(path, "/2.0"), "/api")
	if path == "" {
		path = "/MAAS"
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}, nil
}

var (
	nameForm = regexp.MustCompile(`^[a-z-]+/[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)
	shaForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// checkImage refuses what MAAS would misunderstand: it splits a name at its
// slash (a second one is an internal error), puts it into addresses without
// escaping, compares checksums as text, and shows an empty title as such.
func checkImage(img publish.Image) error {
	switch {
	case !nameForm.MatchString(img.Name):
		return fault.New(fault.Input, "the name %q is not of the form esxi/RELEASE", img.Name)
	case img.Title == "":
		return fault.New(fault.Input, "the image has no title")
	case !shaForm.MatchString(img.SHA256):
		return fault.New(fault.Input, "the image's sha256 is not known")
	case img.Size <= 0:
		return fault.New(fault.Input, "the image is empty")
	}
	return nil
}

// Publish uploads an image; see publish.Publisher.
func (c *Client) Publish(ctx context.Context, img publish.Image, progress func(done, total int64)) (publish.Result, error) {
	started := time.Now()
	u, err := c.upload(ctx, img, progress)
	if err != nil {
		return publish.Result{}, err
	}
	return publish.Result{
		Target:   c.target.Name,
		Action:   u.action(),
		Location: c.base.String() + fmt.Sprintf("/api/2.0/boot-resources/%d/", u.resource),
		Bytes:    u.bytes,
		Seconds:  time.Since(started).Seconds(),
	}, nil
}

func (c *Client) upload(ctx context.Context, img publish.Image, progress func(done, total int64)) (*upload, error) {
	if err := checkImage(img); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	buf := make([]byte, c.target.ChunkSize)
	src, err := openSource(ctx, img, buf)
	if err != nil {
		return nil, err
	}
	defer src.close()
	s, err := c.connect()
	if err != nil {
		return nil, err
	}
	defer s.close()
	u := &upload{
		session: s, img: img, src: src, buf: buf, keepOld: c.target.KeepOld, progress: progress,
		journal: openJournal(img.Path, c.target.Name),
		dead:    map[string]bool{}, full: map[string]bool{},
		retry: backoff{Limits: c.Limits},
	}
	return u, u.run(ctx)
}
