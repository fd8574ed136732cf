package vm

import (
	"sync"
	"time"
)

// transcript takes the guest's serial output: into the console log, and into
// what is known about the installation. One goroutine writes, another asks, so
// that the guest never waits for the latter.
type transcript struct {
	mu        sync.Mutex
	splitter  splitter
	console   *console
	log       installerLog
	lastInput time.Time
}

// known is what a transcript tells at one moment.
type known struct {
	phase      phase
	markerSeen bool
	stopped    bool   // the installer printed an error that it stops at
	words      string // the installer's error, else its last line
	lastLine   string
	lastInput  time.Time
}

// Write takes bytes as they come. It never fails.
func (t *transcript) Write(chunk []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastInput = time.Now()
	t.splitter.feed(chunk, t.line)
	return len(chunk), nil
}

func (t *transcript) line(raw []byte) {
	line := redacted(raw)
	t.console.write(line)
	t.log.line(line)
}

// end takes an unfinished last line.
func (t *transcript) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.splitter.flush(t.line)
}

func (t *transcript) enter(p phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.enter(p)
}

func (t *transcript) disk(written int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.disk(written)
}

func (t *transcript) known() known {
	t.mu.Lock()
	defer t.mu.Unlock()
	return known{
		phase: t.log.phase, markerSeen: t.log.markerSeen, stopped: t.log.stopped(),
		words: t.log.words(), lastLine: t.log.last, lastInput: t.lastInput,
	}
}
