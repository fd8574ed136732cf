package client

import (
	"time"

	"github.com/godbus/dbus/v5"
)

// Build is a build as the service shows it. Times are zero, and null in JSON, where there
// is none.
type Build struct {
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	Title         string            `json:"title"`
	Product       string            `json:"product"`
	Version       string            `json:"version"`
	BuildNumber   string            `json:"build_number"`
	Vendor        string            `json:"vendor"`
	ISOSHA256     string            `json:"iso_sha256"`
	Kickstart     []string          `json:"kickstart"`
	State         string            `json:"state"`
	Current       bool              `json:"current"`
	QueuePosition uint32            `json:"queue_position"` // 0: does not wait
	Step          string            `json:"step"`           // "": none is running
	StepIndex     uint32            `json:"step_index"`
	StepCount     uint32            `json:"step_count"`
	StepStarted   Time              `json:"step_started"`
	Progress      *float64          `json:"progress"` // percent of the step; null: unknown
	BytesDone     uint64            `json:"bytes_done"`
	BytesTotal    uint64            `json:"bytes_total"` // 0: unknown
	Message       string            `json:"message"`
	Steps         []Step            `json:"steps"` // the finished ones
	Queued        Time              `json:"queued"`
	Started       Time              `json:"started"`
	Finished      Time              `json:"finished"`
	ExpectedEnd   Time              `json:"expected_end"`
	NextTry       Time              `json:"next_try"`
	Attempts      uint32            `json:"attempts"`
	Result        string            `json:"result"` // success, failed, cancelled; "" while it has not ended
	Error         *Error            `json:"error"`
	Image         string            `json:"image"` // the image's id, or ""
	Published     map[string]string `json:"published"`
}

// Step is a finished step.
type Step struct {
	Name     string  `json:"name"`
	Seconds  float64 `json:"seconds"`
	Finished Time    `json:"finished"`
	Note     string  `json:"note"`
}

// Error is why a build stopped.
type Error struct {
	Name    string `json:"name"` // as on the bus: org.esxid1.Error.…
	Message string `json:"message"`
}

// Image is a finished image.
type Image struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Title       string            `json:"title"`
	Version     string            `json:"version"`
	BuildNumber string            `json:"build_number"`
	Path        string            `json:"path"`
	SHA256      string            `json:"sha256"`
	PackedSize  uint64            `json:"packed_size"`
	RawSize     uint64            `json:"raw_size"`
	DataSize    uint64            `json:"data_size"`
	Created     Time              `json:"created"`
	Published   map[string]string `json:"published"`
}

// Time is a time that may not be there.
type Time struct{ time.Time }

// MarshalJSON writes null for a time that is not there.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.UTC().Truncate(time.Millisecond).MarshalJSON()
}

// Compare orders times.
func (t Time) Compare(u Time) int { return t.Time.Compare(u.Time) }

// values are an interface's properties as they come from the bus.
type values = map[string]dbus.Variant

// get returns a property, or the zero value if another version of the service does not have
// it or has it with another type.
func get[T any](v values, name string) T {
	value, _ := v[name].Value().(T)
	return value
}

// getStruct is get for what has structures in it.
func getStruct[T any](v values, name string) T {
	var value, zero T
	if variant, ok := v[name]; !ok || variant.Store(&value) != nil {
		return zero
	}
	return value
}

func getTime(v values, name string) Time { return fromUSec(get[uint64](v, name)) }

// fromUSec is a time from microseconds; what no calendar has is none.
func fromUSec(usec uint64) Time {
	const lastYear = 253402300799 // of four digits, in seconds
	if usec == 0 || usec/1e6 > lastYear {
		return Time{}
	}
	return Time{time.UnixMicro(int64(usec))}
}

func newBuild(v values, images map[dbus.ObjectPath]string) Build {
	b := Build{
		ID: get[string](v, "Id"), Name: get[string](v, "Name"), Title: get[string](v, "Title"),
		Product: get[string](v, "Product"), Version: get[string](v, "Version"), BuildNumber: get[string](v, "BuildNumber"), Vendor: get[string](v, "Vendor"),
		ISOSHA256: get[string](v, "Sha256"), Kickstart: get[[]string](v, "Kickstart"),
		State: get[string](v, "State"), Current: get[bool](v, "Current"), QueuePosition: get[uint32](v, "QueuePosition"),
		Step: get[string](v, "Step"), StepIndex: get[uint32](v, "StepIndex"), StepCount: get[uint32](v, "StepCount"), StepStarted: getTime(v, "StepStartedUSec"),
		BytesDone: get[uint64](v, "BytesDone"), BytesTotal: get[uint64](v, "BytesTotal"), Message: get[string](v, "Message"),
		Queued: getTime(v, "QueuedUSec"), Started: getTime(v, "StartedUSec"), Finished: getTime(v, "FinishedUSec"),
		ExpectedEnd: getTime(v, "ExpectedEndUSec"), NextTry: getTime(v, "NextTryUSec"),
		Attempts: get[uint32](v, "Attempts"), Result: get[string](v, "Result"),
		Image: images[get[dbus.ObjectPath](v, "Image")], Published: get[map[string]string](v, "Published"),
		Steps: []Step{},
	}
	if get[bool](v, "ProgressValid") {
		progress := get[float64](v, "Progress")
		b.Progress = &progress
	}
	type record struct {
		Name     string
		Seconds  float64
		Finished uint64
		Note     string
	}
	for _, s := range getStruct[[]record](v, "StepTimes") {
		b.Steps = append(b.Steps, Step{s.Name, s.Seconds, fromUSec(s.Finished), s.Note})
	}
	if e := getStruct[Error](v, "Error"); e.Name != "" {
		b.Error = &e
	}
	return b
}

func newImage(v values) Image {
	return Image{
		ID: get[string](v, "Id"), Name: get[string](v, "Name"), Title: get[string](v, "Title"), Version: get[string](v, "Version"), BuildNumber: get[string](v, "BuildNumber"),
		Path: get[string](v, "Path"), SHA256: get[string](v, "Sha256"), PackedSize: get[uint64](v, "PackedSize"), RawSize: get[uint64](v, "RawSize"), DataSize: get[uint64](v, "DataSize"),
		Created: getTime(v, "CreatedUSec"), Published: get[map[string]string](v, "Published"),
	}
}
