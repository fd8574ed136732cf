package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// listen stands for the journal: a socket at a path that records are read from.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// receive reads one record, or returns nil if none is there. What was sent is there: a
// datagram is in the receiver's queue when it is sent.
func receive(t *testing.T, conn *net.UnixConn) map[string]string {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4*maxRecord)
	n := 0
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, failed = unix.Read(int(fd), buf) // does not block
		return true
	})
	if errors.Is(failed, unix.EAGAIN) {
		return nil
	}
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return parse(t, buf[:n])
}

// parse reads the native protocol as the journal does.
func parse(t *testing.T, b []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			t.Fatalf("a field without an end: %q", b)
		}
		name, value, inline := strings.Cut(string(line), "=")
		if !inline {
			n := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || name[0] == '_' || len(name) > 64 {
			t.Errorf("%q is no name of a field", name)
		}
		if _, twice := fields[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		fields[name], b = value, rest
	}
	return fields
}

// testing/slogtest says what every handler has to do with groups, times, empty
// and deferred values.
func TestIsAHandler(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn := listen(t, path)
	slogtest.Run(t, func(*testing.T) slog.Handler { return newHandler(newSocket(path), slog.LevelInfo) }, func(t *testing.T) map[string]any {
		got := map[string]any{}
		for name, value := range receive(t, conn) {
			switch name {
			case "MESSAGE":
				got[slog.MessageKey] = value
			case "PRIORITY":
				got[slog.LevelKey] = value
			case "SYSLOG_TIMESTAMP":
				got[slog.TimeKey] = value
			case "SYSLOG_IDENTIFIER":
			default:
				// The suite's groups are upper case and its keys lower case.
				parts := strings.Split(strings.TrimPrefix(name, "ESXID_"), "_")
				m := got
				for _, group := range parts[:len(parts)-1] {
					if m[group] == nil {
						m[group] = map[string]any{}
					}
					m = m[group].(map[string]any)
				}
				m[strings.ToLower(parts[len(parts)-1])] = value
			}
		}
		return got
	})
}

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn := listen(t, path)
	level := &slog.LevelVar{}
	log := slog.New(newHandler(newSocket(path), level))
	tests := []struct {
		name string
		log  func()
		want map[string]string // without SYSLOG_…
	}{
		{"fields", func() {
			log.Info("Built esxi/8.0.", Built.Attr(), "build", "8.0.3-1-ab", "iso-build", 7, "files", []string{"a", "b"})
		},
			map[string]string{"MESSAGE": "Built esxi/8.0.", "PRIORITY": "6", "MESSAGE_ID": string(Built),
				"ESXID_BUILD": "8.0.3-1-ab", "ESXID_ISO_BUILD": "7", "ESXID_FILES": "a b"}},
		{"levels", func() { log.Error("x") }, map[string]string{"MESSAGE": "x", "PRIORITY": "3"}},
		{"warning", func() { log.Warn("x") }, map[string]string{"MESSAGE": "x", "PRIORITY": "4"}},
		{"one line, readable", func() { log.Info("a\nb\x1b[2J \xff"); log.Debug("not shown") }, map[string]string{"MESSAGE": "a b?[2J ?", "PRIORITY": "6"}},
		{"lines in a value", func() { log.Info("x", "error", errors.New("one\nPRIORITY=0\ntwo")) },
			map[string]string{"MESSAGE": "x", "PRIORITY": "6", "ESXID_ERROR": "one\nPRIORITY=0\ntwo"}},
		{"a hostile key", func() { log.Info("x", "=\nPRIORITY=0", 1) }, map[string]string{"MESSAGE": "x", "PRIORITY": "6", "ESXID___PRIORITY_0": "1"}},
		{"an id is not forged by a group", func() { log.WithGroup("g").Info("x", "message_id", "1") }, map[string]string{"MESSAGE": "x", "PRIORITY": "6", "ESXID_G_MESSAGE_ID": "1"}},
		{"debug, when asked for", func() { level.Set(slog.LevelDebug); log.Debug("x") }, map[string]string{"MESSAGE": "x", "PRIORITY": "7"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.log()
			got := receive(t, conn)
			delete(got, "SYSLOG_TIMESTAMP")
			delete(got, "SYSLOG_IDENTIFIER")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// However much a record quotes, it is bounded and reaches the journal.
func TestLargeRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn := listen(t, path)
	var attrs []any
	for i := range 100 {
		attrs = append(attrs, fmt.Sprint("key", i), strings.Repeat("ü", 1<<20))
	}
	slog.New(newHandler(newSocket(path), slog.LevelInfo)).Info(strings.Repeat("m", 1<<20), attrs...)
	got := receive(t, conn)
	if len(got["MESSAGE"]) > maxMessage+len("…") || len(got["ESXID_KEY0"]) > maxValue+len("…") || len(got) > 20 {
		t.Errorf("MESSAGE %d, ESXID_KEY0 %d bytes, %d fields", len(got["MESSAGE"]), len(got["ESXID_KEY0"]), len(got))
	}
}

// A journal that does not read, or is not there, holds nobody up; when it is back
// it is told how much it has missed.
func TestJournalDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn := listen(t, path)
	log := slog.New(newHandler(newSocket(path), slog.LevelInfo))
	const sent = 5000
	start := time.Now()
	for i := range sent {
		log.Info(fmt.Sprint("message ", i))
	}
	if took := time.Since(start); took > sent*patience*time.Microsecond/10 {
		t.Errorf("%d messages took %v", sent, took)
	}
	read := 0
	for receive(t, conn) != nil {
		read++
	}
	log.Info("back")
	notice, last := receive(t, conn), receive(t, conn)
	if want := fmt.Sprintf("Messages of esxid that did not reach the journal: %d.", sent-read); notice["MESSAGE"] != want || last["MESSAGE"] != "back" {
		t.Errorf("%q, then %q; want %q, then back", notice["MESSAGE"], last["MESSAGE"], want)
	}
}

func TestJournalIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	log := slog.New(newHandler(newSocket(path), slog.LevelInfo))
	log.Info("lost")
	conn := listen(t, path)
	log.Info("found")
	if got := receive(t, conn)["MESSAGE"]; got != "Messages of esxid that did not reach the journal: 1." {
		t.Errorf("first %q", got)
	}
	if got := receive(t, conn)["MESSAGE"]; got != "found" {
		t.Errorf("then %q", got)
	}
}

// JOURNAL_STREAM alone says nothing: a shell started from a service has it, too.
func TestNewHandler(t *testing.T) {
	if os.Getenv("ESXID_TEST_HANDLER") != "" {
		fmt.Printf("%T\n", NewHandler(os.Stderr, slog.LevelInfo))
		return
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stream := os.NewFile(uintptr(pair[0]), "stream")
	defer stream.Close()
	defer syscall.Close(pair[1])
	var st syscall.Stat_t
	if err := syscall.Fstat(pair[0], &st); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, stream, want string }{
		{"connected", fmt.Sprintf("%d:%d", st.Dev, st.Ino), "*journal.handler"},
		{"another's stream", fmt.Sprintf("%d:%d", st.Dev, st.Ino+1), "*slog.TextHandler"},
		{"nonsense", "x", "*slog.TextHandler"},
		{"none", "", "*slog.TextHandler"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestNewHandler$")
			cmd.Env = append(os.Environ(), "ESXID_TEST_HANDLER=1", "JOURNAL_STREAM="+tt.stream, "GORACE=atexit_sleep_ms=0")
			cmd.Stderr = stream
			out, err := cmd.Output()
			if first, _, _ := strings.Cut(string(out), "\n"); err != nil || first != tt.want {
				t.Errorf("got %q, %v; want %s", first, err, tt.want)
			}
		})
	}
	var b bytes.Buffer
	slog.New(NewHandler(&b, slog.LevelInfo)).Info("Built.", Built.Attr(), "build", "x")
	if got := b.String(); !strings.HasSuffix(got, "level=INFO msg=Built. build=x\n") {
		t.Errorf("as text: %q", got)
	}
}

// A field with another character in its name is one that the journal leaves out.
func TestFieldName(t *testing.T) {
	for key, want := range map[string]string{
		"iso_build":             "ISO_BUILD",
		"größe (GiB)":           "GR__E__GIB_",
		strings.Repeat("a", 50): strings.Repeat("A", 40),
	} {
		if got := fieldName(key); got != want {
			t.Errorf("fieldName(%q) = %q, want %q", key, got, want)
		}
	}
}
