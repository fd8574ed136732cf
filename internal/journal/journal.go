// Package journal writes log records to systemd's journal: the sentence a person
// reads as MESSAGE, each attribute as a field of its own, the level as PRIORITY,
// and for the events of the catalog (messages.go) a MESSAGE_ID, so that
//
//	journalctl -u esxid                    reads like a diary,
//	journalctl ESXID_BUILD=8.0.3-24280767-1a2b3c4d   is that of one build, and
//	journalctl -x                          explains what happened and what to do.
//
// It speaks the journal's native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/) itself: a journal that is restarted,
// or too slow, must not hold up the service, and the library's Send waits for it
// without a limit.
package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	sd "github.com/coreos/go-systemd/v22/journal"
)

// NewHandler returns a handler for what a service has to say: to the journal if w is
// the standard error and systemd has connected that to the journal, else as text to w.
func NewHandler(w io.Writer, level slog.Leveler) slog.Handler {
	if w == io.Writer(os.Stderr) {
		// JOURNAL_STREAM is inherited by every child: only with the device and inode
		// of the descriptor itself does it say anything (systemd.exec(5)).
		if is, err := sd.StderrIsJournalStream(); err == nil && is {
			return newHandler(newSocket(socketPath), level)
		}
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutID})
}

// withoutID leaves out what only the journal can use.
func withoutID(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == messageIDKey {
		return slog.Attr{}
	}
	return a
}

// Limits of a record, in bytes and fields: what is logged quotes installers,
// servers and file names. All of it fits into one datagram.
const (
	maxMessage = 4 << 10
	maxValue   = 8 << 10
	maxRecord  = 64 << 10
)

// handler is a slog.Handler.
type handler struct {
	out    *socket
	level  slog.Leveler
	prefix string // of the fields: ESXID_ and the groups
	fields []byte // of WithAttrs
}

func newHandler(out *socket, level slog.Leveler) *handler {
	return &handler{out: out, level: level, prefix: "ESXID_"}
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var b []byte
	b = appendField(b, "MESSAGE", oneLine(r.Message))
	b = appendField(b, "PRIORITY", priority(r.Level))
	b = appendField(b, "SYSLOG_IDENTIFIER", "esxid")
	if !r.Time.IsZero() {
		// The journal's own time is when it took the record, which may be later.
		b = appendField(b, "SYSLOG_TIMESTAMP", r.Time.Format(time.RFC3339Nano))
	}
	b = append(b, h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		b = h.append(b, h.prefix, a)
		return true
	})
	h.out.send(b)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.fields = slices.Clone(h.fields)
	for _, a := range attrs {
		with.fields = with.append(with.fields, with.prefix, a)
	}
	return &with
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	with := *h
	with.prefix += fieldName(name) + "_"
	return &with
}

// append appends an attribute, and those of a group one by one.
func (h *handler) append(b []byte, prefix string, a slog.Attr) []byte {
	value := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}), len(b) > maxRecord:
		return b
	case value.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += fieldName(a.Key) + "_"
		}
		for _, inner := range value.Group() {
			b = h.append(b, prefix, inner)
		}
		return b
	case a.Key == messageIDKey && prefix == "ESXID_":
		return appendField(b, "MESSAGE_ID", value.String())
	}
	return appendField(b, prefix+fieldName(a.Key), text(value))
}

// text is a value as a field holds it.
func text(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339Nano)
	case slog.KindAny:
		if list, ok := v.Any().([]string); ok {
			return cut(strings.Join(list, " "), maxValue)
		}
	}
	return cut(v.String(), maxValue)
}

// priority is syslog's for a level.
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "3"
	case l >= slog.LevelWarn:
		return "4"
	case l >= slog.LevelInfo:
		return "6"
	}
	return "7"
}

// fieldName makes an attribute's key a field's name: A-Z, 0-9 and _.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		r = unicode.ToUpper(r)
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return '_'
		}
		return r
	}, key)
	return name[:min(len(name), 40)] // with the prefix: the journal takes 64
}

// oneLine is a message without anything that ends a line or moves a cursor.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	return cut(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s), maxMessage)
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s…", strings.ToValidUTF8(s[:most], ""))
}

// appendField appends a field in the native protocol: NAME=value, or, where the
// value has lines, NAME, its length in 64 bits, little endian, and the value.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	b = append(b, value...)
	return append(b, '\n')
}
