// Package publish describes where finished images go. Its subpackages are the
// kinds of targets: maas uploads to a MAAS region controller, directory copies
// into a directory.
package publish

import "context"

// Image is a packed and verified image.
type Image struct {
	Path         string // of the .dd.gz file
	Name         string // boot resource name, e.g. "esxi/8.0"
	Title        string // what MAAS's pages show
	Architecture string // "amd64/generic"
	SHA256       string // of the file, lower-case hex, as verified
	Size         int64  // of the file in bytes, as verified
	Manifest     string // path of manifest.json
	Dir          string // directory name in a directory target: "<name>-<build>", no slash
}

// What Publish did.
const (
	Uploaded = "uploaded" // the target has the image now
	Present  = "present"  // the target had the image already
)

// Result is what Publish did.
type Result struct {
	Target   string  `json:"target"`   // the target's name
	Action   string  `json:"action"`   // Uploaded or Present
	Location string  `json:"location"` // address or path of the image at the target
	Bytes    int64   `json:"bytes"`    // sent or copied by this call
	Seconds  float64 `json:"seconds"`  // spent by this call
}

// Publisher is a target. Check and Publish can be cancelled at any point and called
// again; Publish then goes on where it can. An error says what to do, but not
// the target's or image's name, which the caller knows, and is classed (package
// fault): TryLater and Unavailable mean that the same call may work later
// without anybody doing anything, all others that somebody must act first.
type Publisher interface {
	Name() string

	// Address says where the target is: a URL or a path, without secrets. What
	// was published is looked at again when it changes.
	Address() string

	// Check finds out whether Publish could work, and changes nothing.
	Check(ctx context.Context) error

	// Publish makes img available at the target unless it is there already.
	// It retries by itself for some minutes. progress, which may be nil, is
	// told bytes; done may fall when an upload has to start over.
	Publish(ctx context.Context, img Image, progress func(done, total int64)) (Result, error)
}
