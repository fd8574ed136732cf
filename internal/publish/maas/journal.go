package maas

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// entry is what is known about the end of an unfinished upload.
//
// MAAS appends a chunk to the file, then counts it. From 3.8 a chunk that
// fails in between can leave the file without its beginning and the count as
// it was; further chunks would then complete a broken image unchecked. An
// upload may go on at a place that MAAS counts only if the entry explains it:
// no chunk is under way there, or the one that was has been counted.
type entry struct {
	URI    string `json:"uri"`    // where chunks are sent
	Offset int64  `json:"offset"` // of the chunk; all before it was counted
	Length int64  `json:"length"` // of the chunk
	Sent   bool   `json:"sent"`   // MAAS may have all of the chunk
}

// explains reports whether MAAS counting offset bytes at uri means that the
// file holds exactly these or more.
func (e entry) explains(uri string, offset int64) bool {
	if e.URI != uri {
		return offset == 0
	}
	return offset == 0 || offset == e.Offset && !e.Sent || offset == e.Offset+e.Length
}

// journal keeps the entry across runs of esxid, in a small file beside the
// image. It need not survive a crash of the host, and where it cannot be
// written an upload to MAAS 3.8 starts over instead of going on.
type journal struct {
	path string
	entry
}

// openJournal reads the entry an earlier run has left, if any.
func openJournal(image, target string) *journal {
	j := &journal{path: filepath.Join(filepath.Dir(image), "."+filepath.Base(image)+"."+target+".upload")}
	if text, err := os.ReadFile(j.path); err == nil && json.Unmarshal(text, &j.entry) != nil {
		j.entry = entry{}
	}
	return j
}

// note records e, on disk too if keep is set.
func (j *journal) note(e entry, keep bool) {
	j.entry = e
	if !keep {
		return
	}
	text, err := json.Marshal(e)
	if err == nil {
		err = os.WriteFile(j.path, text, 0o600)
	}
	if err != nil {
		os.Remove(j.path) // an old entry could explain what it must not
	}
}

// clear forgets the upload: finished, or not to be continued.
func (j *journal) clear() {
	j.entry = entry{}
	os.Remove(j.path)
}
