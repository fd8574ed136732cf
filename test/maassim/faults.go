package maassim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Fault is a fault to inject. Chunk is the number of the upload request it
// happens at, counted from 1 over the life of the stand-in; 0 is the first
// one it can happen at. What lasts begins there, and with 0 at once.
type Fault struct {
	Name  string
	Chunk int
}

// Names of faults that strike once, at one upload request.
const (
	resetBefore     = "reset-before-store"
	resetAfter      = "reset-after-store"
	conflict409     = "conflict-409"
	badGateway502   = "bad-gateway-502"
	unavailable503  = "unavailable-503"
	timeout504      = "gateway-timeout-504"
	internal500     = "internal-error-500"
	slowFinal       = "slow-final"
	final504        = "final-504-committed"
	tokenRevoked    = "token-revoked"
	resourceDeleted = "resource-deleted"
	htmlChunk       = "html-chunk"
	duplicateAppend = "duplicate-append"
	corruptChunk    = "corrupt-chunk"
)

// Names of faults that strike once, when a resource is created.
const (
	createLost = "reset-after-create"
	create502  = "bad-gateway-create"
)

// Names of conditions that hold all the time, or from an upload request on.
const (
	htmlAnswer   = "html-answer"
	createDown   = "create-down"
	noUbuntu     = "no-ubuntu-image"
	reservedName = "reserved-name"
	smallBody    = "small-body-413"
	diskFull     = "disk-full"
)

// Names of conditions that hold all the time.
const (
	twoRegions   = "two-regions"
	nonAdmin     = "non-admin-key"
	inactiveUser = "inactive-user"
	clockAhead   = "clock-ahead"
)

// kinds lists the faults with what they do, in the order they are shown.
var kinds = []struct{ name, text string }{
	{resetBefore, "the connection is reset before a chunk is stored"},
	{resetAfter, "the connection is reset instead of the answer to a processed chunk"},
	{conflict409, "409 with Retry-After after the server's own retries; 3.8 has the chunk on disk all the same"},
	{badGateway502, "502 from the proxy, nothing stored"},
	{unavailable503, "503 with Retry-After, nothing stored"},
	{timeout504, "504 from the proxy, nothing stored"},
	{internal500, "500 with an exception's text (disk error); 3.8 removes the file and keeps the offset"},
	{slowFinal, "the answer to the last chunk takes long"},
	{final504, "the last chunk is committed but answered with 504"},
	{tokenRevoked, "the API key is revoked at a chunk"},
	{resourceDeleted, "someone deletes the resource at a chunk"},
	{diskFull, "the disk is full from a chunk on; 3.8 removes the file and keeps the offset"},
	{htmlChunk, "a proxy answers a chunk with a web page and status 200, nothing stored"},
	{duplicateAppend, "the server retries a conflicted chunk: 3.8 appends it twice, others are safe"},
	{corruptChunk, "a chunk arrives damaged, so the checksum is wrong at the end"},
	{createLost, "the connection is reset instead of the answer to a processed POST"},
	{create502, "502 from the proxy for a POST, nothing done"},
	{htmlAnswer, "every answer is a web page"},
	{twoRegions, "two region controllers: progress stops at 50 and reaches 100 later"},
	{noUbuntu, "no Ubuntu image is imported, so no architecture is usable"},
	{reservedName, "every name is reserved"},
	{nonAdmin, "the key belongs to a user without admin rights"},
	{inactiveUser, "the key belongs to an inactive user"},
	{clockAhead, "MAAS's clock is an hour ahead"},
	{smallBody, "a proxy refuses bodies over 16 KiB with 413"},
	{createDown, "503 for every POST"},
}

// Faults returns the names of all faults.
func Faults() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// AtChunk reports whether it makes a difference at which chunk a fault happens.
func AtChunk(name string) bool {
	return !slices.Contains(always, name) && name != createLost && name != create502
}

// DescribeFaults returns one line of help per fault.
func DescribeFaults() string {
	var b strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&b, "  %-20s %s\n", k.name, k.text)
	}
	return b.String()
}

// ParseFault reads NAME or NAME@CHUNK.
func ParseFault(s string) (Fault, error) {
	name, chunk, hasChunk := strings.Cut(s, "@")
	f := Fault{Name: name}
	if hasChunk {
		n, err := strconv.Atoi(chunk)
		if err != nil || n < 1 {
			return Fault{}, fmt.Errorf("fault %q: want NAME or NAME@CHUNK with a chunk number from 1", s)
		}
		f.Chunk = n
	}
	return f, nil
}

// armory holds the faults that have not struck yet, and those that last.
type armory struct {
	pending []Fault
	lasting map[string]bool
	puts    int // upload requests so far
}

var (
	fromChunk = []string{htmlAnswer, createDown, noUbuntu, reservedName, smallBody, diskFull}
	always    = []string{twoRegions, nonAdmin, inactiveUser, clockAhead}
)

func (s *Sim) arm(faults []Fault) error {
	s.faults.lasting = map[string]bool{}
	for _, f := range faults {
		switch {
		case !slices.Contains(Faults(), f.Name):
			return fmt.Errorf("no fault %q: there are\n%s", f.Name, DescribeFaults())
		case slices.Contains(always, f.Name), slices.Contains(fromChunk, f.Name) && f.Chunk == 0:
			s.faults.lasting[f.Name] = true
		default:
			s.faults.pending = append(s.faults.pending, f)
		}
	}
	if s.faults.lasting[clockAhead] {
		s.opts.Now = ahead(s.opts.Now)
	}
	return nil
}

// ClearFaults ends all faults, as if MAAS had been mended. A clock that is
// ahead stays ahead.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.pending, s.faults.lasting = nil, map[string]bool{}
	s.addDefaultUsers()
}

// SuspendFaults holds all faults back until the returned function is called.
func (s *Sim) SuspendFaults() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.faults
	s.faults = armory{lasting: map[string]bool{}}
	s.addDefaultUsers()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = held
		s.addDefaultUsers()
	}
}

// active reports whether a condition holds.
func (s *Sim) active(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.lasting[name]
}

// strike takes the faults that happen at upload request number put, those that
// last included.
func (a *armory) strike(put int, final bool) map[string]bool {
	hit := map[string]bool{}
	a.pending = slices.DeleteFunc(a.pending, func(f Fault) bool {
		atFinal := f.Name == slowFinal || f.Name == final504
		due := f.Chunk == put || f.Chunk == 0 && (!atFinal || final)
		if f.Name == createLost || f.Name == create502 || !due {
			return false
		}
		hit[f.Name] = true
		return true
	})
	for _, name := range fromChunk {
		if hit[name] {
			a.lasting[name] = true
		}
		hit[name] = a.lasting[name]
	}
	return hit
}

// take removes the first pending fault of that name.
func (s *Sim) take(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.faults.pending, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		return false
	}
	s.faults.pending = slices.Delete(s.faults.pending, i, i+1)
	return true
}
