package maas

import (
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// maxStarts bounds how many times one Publish begins an upload. A single fault
// on MAAS 3.8 can cost two: what it leaves on the server's disk spoils the
// next upload too, and only that one's failure clears it.
const maxStarts = 8

// action is what to do next.
type action int

const (
	done   action = iota // MAAS has the image, complete, as its newest
	await                // MAAS has all bytes; wait until it calls the image complete
	settle               // the answer to the last chunk was lost; wait whether it was stored
	purge                // delete the resource: MAAS keeps a damaged part of the image
	create               // begin a new upload
	send                 // send the rest
)

// slot is a file at MAAS that waits for bytes.
type slot struct {
	uri    string
	offset int64 // what MAAS has already
}

// plan decides what to do about the resource as MAAS shows it now (nil: there
// is none) and what this upload has been through. It changes nothing.
func (u *upload) plan(r *resource, now time.Time) (action, slot, error) {
	if r == nil {
		return u.begin()
	}
	if _, f, ok := r.newest(func(s set) bool { return s.Complete }); ok && u.isOurs(f) {
		return done, slot{}, nil
	}
	if u.inherited >= 2 && u.version.before(3, 5) {
		// Up to 3.4 a new upload of the same sha256 inherits the stored bytes,
		// right or wrong, until no file refers to them.
		if _, _, other := r.newest(func(s set) bool { return s.Complete }); other {
			return 0, slot{}, fault.New(fault.Failed, "MAAS keeps a damaged part of this image from an earlier upload, and will until boot resource %d is deleted; "+
				"it holds an older image that works, so delete it yourself (maas PROFILE boot-resource delete %d), then publish again", r.ID, r.ID)
		}
		return purge, slot{}, nil
	}
	x, f, ok := r.newest(func(set) bool { return true })
	if !ok || x.Complete || !u.isOurs(f) || f.UploadURI == "" || u.dead[f.UploadURI] {
		return u.begin()
	}
	at := slot{uri: f.UploadURI, offset: u.received(x, f)}
	switch {
	case at.offset >= f.Size, u.full[at.uri]:
		return u.awaitRegions(at, now)
	case u.mayCome && at.uri == u.journal.URI && at.offset == u.journal.Offset && now.Sub(u.lost) < u.Settle:
		return settle, slot{}, nil
	case !u.version.before(3, 8) && !u.journal.explains(at.uri, at.offset):
		return u.begin()
	}
	return send, at, nil
}

func (u *upload) isOurs(f file) bool {
	return f.SHA256 == u.img.SHA256 && f.Size == u.img.Size && f.Filetype == fileType
}

func (u *upload) begin() (action, slot, error) {
	if u.starts < maxStarts {
		return create, slot{}, nil
	}
	if u.badSums > 0 {
		return 0, slot{}, fault.New(fault.Failed, "MAAS computed another checksum than this host in %d of %d uploads: something between %s and this host damages data", u.badSums, u.starts, u.base)
	}
	return 0, slot{}, fault.New(fault.TryLater, "gave up after starting the upload %d times, last because of: %w", u.starts, u.setback)
}

// awaitRegions handles an image all of whose bytes MAAS has, but which it does
// not call complete: other region controllers are still copying it. That is
// their business; after a while the upload counts as done.
func (u *upload) awaitRegions(at slot, now time.Time) (action, slot, error) {
	if u.regions > 1 && !u.fullSince.IsZero() && now.Sub(u.fullSince) > u.Sync && at.offset >= u.img.Size {
		return done, slot{}, nil
	}
	return await, slot{}, nil
}
