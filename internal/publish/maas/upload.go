package maas

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// upload is one run of Publish.
type upload struct {
	*session
	img      publish.Image
	src      *source
	buf      []byte // one chunk
	keepOld  bool
	journal  *journal
	progress func(done, total int64)
	retry    backoff

	greeted   bool
	resource  int64           // id, once known
	bytes     int64           // sent
	starts    int             // uploads begun
	badSums   int             // uploads MAAS found to have the wrong checksum
	inherited int             // the same since the resource was deleted last
	dead      map[string]bool // addresses no byte may be sent to any more
	full      map[string]bool // addresses that have all bytes, as MAAS said
	fullSince time.Time       // since when MAAS has all bytes
	lost      time.Time       // when the answer to the last chunk was lost
	mayCome   bool            // that chunk may still be stored
	setback   error           // the latest failure
}

// run steps until the image is there, something final happens, or nothing has
// gone forward for too long.
func (u *upload) run(ctx context.Context) error {
	for {
		finished, err := u.step(ctx)
		t, again := isTransient(err)
		switch {
		case finished:
			u.journal.clear()
			u.progress(u.img.Size, u.img.Size)
			return nil
		case again:
			u.setback = t.err
			if err := u.retry.wait(ctx, t); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
}

func (u *upload) action() string {
	if u.bytes == 0 && u.starts == 0 {
		return publish.Present
	}
	return publish.Uploaded
}

// step looks at what MAAS has, and does the next thing.
func (u *upload) step(ctx context.Context) (finished bool, err error) {
	if !u.greeted {
		if err := u.hello(ctx); err != nil {
			return false, err
		}
		u.greeted = true
	}
	r, err := u.find(ctx, u.img.Name, u.img.Architecture)
	if err != nil {
		return false, err
	}
	if r != nil {
		u.resource = r.ID
	}
	next, at, err := u.plan(r, time.Now())
	if err != nil {
		return false, err
	}
	switch next {
	case done:
		return true, nil
	case await:
		if u.fullSince.IsZero() {
			u.fullSince = time.Now()
		}
		return false, &transient{err: fmt.Errorf("%s has all of the image but does not call it complete yet", u.base)}
	case settle:
		return false, &transient{err: u.setback}
	case purge:
		u.inherited = 0
		return false, u.remove(ctx, r.ID)
	case create:
		return false, u.create(ctx)
	}
	return false, u.send(ctx, at)
}

// hello checks address, key and clock, before MAAS is asked for anything.
func (u *upload) hello(ctx context.Context) error {
	if err := u.greet(ctx); err != nil {
		return err
	}
	if _, err := u.whoami(ctx); err != nil {
		return err
	}
	return u.countRegions(ctx)
}

// create begins an upload. The next look finds it, with what MAAS has of it
// already.
func (u *upload) create(ctx context.Context) error {
	u.fullSince = time.Time{}
	u.journal.clear()
	v := url.Values{
		"name":         {u.img.Name},
		"title":        {u.img.Title},
		"architecture": {u.img.Architecture},
		"filetype":     {"ddgz"},
		"sha256":       {u.img.SHA256},
		"size":         {strconv.FormatInt(u.img.Size, 10)},
	}
	if u.keepOld {
		v.Set("keep_old", "true")
	}
	a, err := u.form(ctx, v)
	if t, lost := isTransient(err); lost && t.slow {
		u.starts++ // perhaps
	}
	if err != nil {
		return err
	}
	switch a.status {
	case http.StatusCreated:
		u.starts++
		return nil
	case http.StatusBadRequest:
		return u.refusedForm(a)
	}
	return fault.New(fault.Unavailable, "%s answered %d to the creation of a boot resource%s", u.base, a.status, u.quote(a))
}

// send sends the rest of the image, chunk by chunk.
func (u *upload) send(ctx context.Context, at slot) error {
	path, err := u.uploadPath(at.uri)
	if err != nil {
		return err
	}
	u.journal.note(entry{URI: at.uri, Offset: at.offset}, u.journals())
	u.progress(at.offset, u.img.Size)
	for at.offset < u.img.Size {
		part := u.buf[:min(int64(len(u.buf)), u.img.Size-at.offset)]
		if err := u.src.read(part, at.offset); err != nil {
			return err
		}
		if err := u.put(ctx, path, at, part); err != nil {
			return err
		}
		at.offset += int64(len(part))
		u.bytes += int64(len(part))
		u.journal.note(entry{URI: at.uri, Offset: at.offset}, u.journals())
		u.retry.forward()
		u.progress(at.offset, u.img.Size)
	}
	// MAAS took the last chunk: whatever it counts now, this upload needs no more bytes.
	u.full[at.uri] = true
	return nil
}

// journals reports whether this MAAS needs the journal on disk.
func (u *upload) journals() bool { return !u.version.before(3, 8) }

// put sends one chunk.
func (u *upload) put(ctx context.Context, path string, at slot, part []byte) error {
	chunk := entry{URI: at.uri, Offset: at.offset, Length: int64(len(part))}
	last := at.offset+chunk.Length == u.img.Size
	timeout := u.Chunk
	if last {
		timeout = u.Final
	}
	a, err := u.do(ctx, request{
		method: http.MethodPut, path: path, contentType: "application/octet-stream", body: part, timeout: timeout,
		sent: func() {
			chunk.Sent = true
			u.journal.note(chunk, u.journals())
		},
	})
	if err != nil {
		t, again := isTransient(err)
		u.mayCome, u.lost = again && last && t.slow && chunk.Sent, time.Now()
		if class := fault.ClassOf(err); !again && (class == fault.NotPermitted || class == fault.Config) {
			// Refused before MAAS looked at the chunk.
			u.journal.note(entry{URI: at.uri, Offset: at.offset}, u.journals())
		}
		return err
	}
	return u.answered(a, at)
}

// answered judges the answer to a chunk.
func (u *upload) answered(a *answer, at slot) error {
	text := strings.TrimSpace(string(a.body))
	switch {
	case a.status == http.StatusOK && text == "OK":
		return nil
	case a.status == http.StatusNotFound:
		return &transient{err: fmt.Errorf("the upload was deleted or replaced by somebody else at MAAS")}
	case a.status == http.StatusBadRequest && strings.Contains(text, "Cannot upload to a complete file"):
		u.full[at.uri] = true
	case a.status == http.StatusBadRequest:
		u.refusedChunk(text, at)
	default:
		// A proxy's page, perhaps. Whether the chunk went through is not known.
		return &transient{err: fmt.Errorf("%s answered %d to a chunk, but not as MAAS does", u.base, a.status)}
	}
	return &transient{err: fmt.Errorf("MAAS refused a chunk%s", u.quote(a))}
}

// refusedChunk draws the consequences of a 400. With nothing stored the same
// address can be used again: from 3.8 the file of an earlier upload of the
// same content may have been in the way, and is gone now.
func (u *upload) refusedChunk(text string, at slot) {
	badSum := strings.Contains(text, "does not match given SHA256")
	if badSum {
		u.badSums++
		u.inherited++
	}
	if badSum || at.offset > 0 {
		u.dead[at.uri] = true
		u.journal.clear()
	}
}
