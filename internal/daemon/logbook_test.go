package daemon

import (
	"context"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/esxid/esxid/internal/journal"
)

// logbook is a log that tests can look into. Of every event that the catalog
// explains it checks that there is a field for each one the explanation names.
type logbook struct {
	slog.Handler // shows it, too
	t            *testing.T
	mu           sync.Mutex
	entries      []entryOf
}

type entryOf struct {
	level   slog.Level
	message string
	id      journal.MessageID
}

func newLogbook(t *testing.T) *logbook {
	return &logbook{Handler: slog.NewTextHandler(t.Output(), nil), t: t}
}

func (l *logbook) Handle(ctx context.Context, r slog.Record) error {
	e := entryOf{level: r.Level, message: r.Message}
	fields := map[string]bool{}
	r.Attrs(func(a slog.Attr) bool {
		fields["ESXID_"+strings.ToUpper(a.Key)] = true
		if a.Key == "message_id" {
			e.id = journal.MessageID(a.Value.String())
		}
		return true
	})
	if e.id != "" {
		text, ok := catalog(l.t)[e.id]
		if !ok {
			l.t.Errorf("%q has an id that the catalog does not know", r.Message)
		}
		for _, m := range fieldForm.FindAllStringSubmatch(text, -1) {
			if !fields[m[1]] {
				l.t.Errorf("%q has no field %s, which its explanation names", r.Message, m[1])
			}
		}
	}
	if strings.Contains(r.Message, "\n") || !strings.Contains(r.Message, " ") {
		l.t.Errorf("%q does not read as a sentence", r.Message)
	}
	l.mu.Lock()
	l.entries = append(l.entries, e)
	l.mu.Unlock()
	return l.Handler.Handle(ctx, r)
}

func (l *logbook) WithAttrs([]slog.Attr) slog.Handler { panic("not used") }
func (l *logbook) WithGroup(string) slog.Handler      { panic("not used") }

// count is how many entries have an id and a text in them.
func (l *logbook) count(id journal.MessageID, text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.entries {
		if e.id == id && strings.Contains(e.message, text) {
			n++
		}
	}
	return n
}

var fieldForm = regexp.MustCompile(`@([A-Z0-9_]+)@`)

// catalog returns the explanations by message id.
func catalog(t *testing.T) map[journal.MessageID]string {
	t.Helper()
	text, err := os.ReadFile("../../systemd/esxid.catalog")
	if err != nil {
		t.Fatal(err)
	}
	entries := map[journal.MessageID]string{}
	for _, part := range strings.Split("\n"+string(text), "\n-- ")[1:] {
		id, rest, _ := strings.Cut(part, "\n")
		entries[journal.MessageID(id)] = rest
	}
	return entries
}
