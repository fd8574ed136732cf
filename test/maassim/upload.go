package maassim

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// parsedTypes are content types piston decodes, which breaks raw bytes.
var parsedTypes = []string{"application/json", "application/x-yaml", "text/yaml", "application/x-www-form-urlencoded", "multipart/form-data"}

// putChunk appends a request's body to a file.
func (s *Sim) putChunk(w http.ResponseWriter, r *http.Request, u *User) {
	if !s.mayEdit(w, u) {
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); slices.Contains(parsedTypes, kind) {
		text(w, http.StatusBadRequest, "Bad Request")
		return
	}
	s.putMu.Lock()
	defer s.putMu.Unlock()

	s.mu.Lock()
	id, _ := strconv.Atoi(r.PathValue("id"))
	fileID, _ := strconv.Atoi(r.PathValue("file"))
	f := s.db.file(fileID)
	s.faults.puts++
	final := f != nil && s.received(f)+r.ContentLength == f.Size
	hit := s.faults.strike(s.faults.puts, final)
	if hit[resourceDeleted] && s.db.resource(id) != nil {
		s.drop(id)
		_ = s.db.save() // only a later restart would miss it
	}
	if hit[tokenRevoked] {
		s.user(u.Name).Revoked = true
	}
	f = s.db.file(fileID)
	known := s.db.resource(id) != nil
	s.mu.Unlock()

	switch {
	case hit[tokenRevoked]:
		w.Header().Set("WWW-Authenticate", `OAuth realm="OAuth"`)
		text(w, http.StatusUnauthorized, "Authorization Error: 'Invalid access token: %s'", u.Key.Token)
		return
	case !known:
		s.notFound(w, "No BootResource matches the given query.")
		return
	case f == nil:
		s.notFound(w, "No BootResourceFile matches the given query.")
		return
	case hit[badGateway502]:
		html(w, http.StatusBadGateway, "<title>502 Bad Gateway</title>")
		return
	case hit[unavailable503]:
		w.Header().Set("Retry-After", "10")
		text(w, http.StatusServiceUnavailable, "The region controller is not available.")
		return
	case hit[timeout504]:
		html(w, http.StatusGatewayTimeout, "<title>504 Gateway Time-out</title>")
		return
	case hit[htmlChunk]:
		html(w, http.StatusOK, "<title>Sign in to the corporate proxy</title>")
		return
	case r.ContentLength <= 0:
		text(w, http.StatusBadRequest, "Missing data.")
		return
	}
	s.chunk = slices.Grow(s.chunk[:0], int(r.ContentLength))[:r.ContentLength]
	data := s.chunk
	if _, err := io.ReadFull(r.Body, data); err != nil {
		s.refuse(w, "Content-Length doesn't equal size of received data.", "Content-Length doesn't equal size of recieved data.")
		return
	}
	if hit[resetBefore] {
		reset(w)
		return
	}
	if hit[corruptChunk] {
		data[len(data)/2] ^= 0x40
	}
	answer := s.storeChunk(f, data, hit)
	if hit[slowFinal] {
		select {
		case <-time.After(s.opts.SlowFinal):
		case <-r.Context().Done():
		}
	}
	switch {
	case hit[resetAfter]:
		reset(w)
	case hit[final504]:
		html(w, http.StatusGatewayTimeout, "<title>504 Gateway Time-out</title>")
	default:
		answer(w)
	}
}

// refuse answers 400 in the spelling of the generation.
func (s *Sim) refuse(w http.ResponseWriter, body, old string) {
	if s.gen.oldWords {
		body = old
	}
	text(w, http.StatusBadRequest, "%s", body)
}

// storeChunk is MAAS's transaction: the bytes go to the storage, the row
// counts them, and an error takes the row back but not what is on disk. It
// returns the answer to give.
func (s *Sim) storeChunk(f *file, data []byte, hit map[string]bool) func(http.ResponseWriter) {
	s.mu.Lock()
	received := s.received(f)
	s.mu.Unlock()
	name := s.nameOnDisk(f)
	if received == f.Size {
		return func(w http.ResponseWriter) { text(w, http.StatusBadRequest, "Cannot upload to a complete file.") }
	}
	var err error
	switch {
	case hit[diskFull], hit[internal500]:
		if s.store.appendOnly() {
			s.store.remove(name)
		}
		if hit[diskFull] {
			err = errDiskFull
		} else {
			err = errors.New("[Errno 5] Input/output error")
		}
	case hit[conflict409] && s.store.appendOnly(), hit[duplicateAppend] && s.store.appendOnly():
		// The attempt whose transaction fails; its bytes stay.
		err = s.store.put(name, data, received, f.Size, f.SHA256)
	}
	if hit[conflict409] && err == nil {
		return func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "5")
			text(w, http.StatusConflict, "")
		}
	}
	if err == nil {
		err = s.store.put(name, data, received, f.Size, f.SHA256)
	}
	if err != nil {
		return func(w http.ResponseWriter) { s.refuseChunk(w, err) }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen.percent {
		f.Received = received + int64(len(data))
	} else if b := s.db.Blobs[f.SHA256]; b != nil {
		b.Received = received + int64(len(data))
	}
	f.ReceivedAt = s.opts.Now()
	if err := s.db.save(); err != nil {
		return func(w http.ResponseWriter) { text(w, http.StatusInternalServerError, "%v", err) }
	}
	return func(w http.ResponseWriter) { text(w, http.StatusOK, "OK") }
}

func (s *Sim) refuseChunk(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errTooMuch):
		s.refuse(w, "Too much data received.", "Too much data recieved.")
	case errors.Is(err, errBadSHA):
		text(w, http.StatusBadRequest, "Saved content does not match given SHA256 value.")
	case errors.Is(err, errDiskFull) && s.store.appendOnly():
		text(w, http.StatusBadRequest, "No space left on device")
	case errors.Is(err, errDiskFull) && s.gen.percent:
		text(w, http.StatusInternalServerError, "[Errno 28] No space left on device")
	case errors.Is(err, errDiskFull):
		text(w, http.StatusInternalServerError, "could not extend file \"base/16386/2613\": No space left on device")
	default:
		text(w, http.StatusInternalServerError, "%v", err)
	}
}
