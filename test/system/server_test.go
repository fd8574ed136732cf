//go:build system

package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/journal"
	"github.com/esxid/esxid/test/debianvm"
)

// server is the machine with esxid on it, as one check sees it.
type server struct {
	*testing.T
	*site
}

// site is what the checks share.
type site struct {
	machine *debianvm.Machine
	parts   parts
	log     *transcript
	out     string // directory for what people may want to read

	dir string // temporary

	id         string // of the build that the story begins with
	full       string // of the one that begins on a full disk
	token      string // MAAS's key
	password   string // of root on hosts with the first build's image
	deployment chan error
}

// sh runs a script as root and returns what it prints. The check fails and ends
// if the script does.
func (s server) sh(script string) string {
	s.Helper()
	return s.slow(time.Minute, script)
}

// slow is sh for what takes its time.
func (s server) slow(limit time.Duration, script string) string {
	s.Helper()
	r := s.do(commandWithin(limit, script))
	if r.ExitCode != 0 {
		s.Fatalf("exit code %d: %s\n%s%s", r.ExitCode, script, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// try runs a script as some user; any exit code is a result.
func (s server) try(user, script string) debianvm.Result {
	s.Helper()
	return s.do(debianvm.Command{Script: script, User: user})
}

func (s server) do(c debianvm.Command) debianvm.Result {
	s.Helper()
	r, err := s.machine.Run(s.Context(), c)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

func commandWithin(limit time.Duration, script string) debianvm.Command {
	return debianvm.Command{Script: script, Limit: limit}
}

// write writes a file in the machine, as its owner would with an editor.
func (s server) write(path, text string) {
	s.Helper()
	s.sh(fmt.Sprintf("cat >%s <<'END_OF_FILE'\n%s\nEND_OF_FILE", path, strings.TrimSuffix(text, "\n")))
}

// keep writes what a command shows on a terminal to a file in the output directory,
// and returns it.
func (s server) keep(name, command string) string {
	s.Helper()
	r := s.do(debianvm.Command{Script: "COLUMNS=120 script --quiet --return --command \"" + command + "\" /dev/null"})
	text := "$ " + command + "\n" + strings.ReplaceAll(r.Stdout, "\r", "")
	if err := os.WriteFile(filepath.Join(s.out, name), []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
	return text
}

// contains fails the check if the text lacks one of the words.
func (s server) contains(text string, words ...string) {
	s.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			s.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

// cursor is a place in the machine's journal.
type cursor string

// now is the end of the journal.
func (s server) now() cursor {
	s.Helper()
	out := s.sh("journalctl -q --sync; journalctl -q -n 1 -o export --output-fields=MESSAGE | sed -n 's/^__CURSOR=//p'")
	return cursor(out)
}

// event waits for an event of the catalog behind the cursor, and returns its
// fields. match are further matches: ESXID_BUILD=...
func (s server) event(after cursor, limit time.Duration, id journal.MessageID, match ...string) map[string]any {
	s.Helper()
	return s.record(after, limit, append(match, "MESSAGE_ID="+string(id))...)
}

// record waits for the first record of the journal behind the cursor that
// matches, and returns its fields. A build that fails meanwhile is the end of it.
func (s server) record(after cursor, limit time.Duration, match ...string) map[string]any {
	s.Helper()
	// journalctl's --after-cursor would skip the first match, whatever is at the
	// cursor. "break" is the end: the journalctl is killed with the script.
	script := fmt.Sprintf(`while read -r line; do [[ $line == *'%s'* ]] || break; done \
		< <(exec journalctl -q -f --no-tail -o json --cursor='%[1]s' %s + MESSAGE_ID=%s) && printf '%%s\n' "$line"`,
		after, strings.Join(match, " "), journal.BuildFailed)
	r, err := s.machine.Run(s.Context(), commandWithin(limit, script))
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal([]byte(r.Stdout), &fields)
	}
	if id := "MESSAGE_ID=" + string(journal.BuildFailed); err == nil && fields["MESSAGE_ID"] == string(journal.BuildFailed) && !slices.Contains(match, id) {
		err = fmt.Errorf("%s", fields["MESSAGE"])
	}
	if err != nil {
		s.Fatalf("waiting for %s: %v\nthe journal since then:\n%s", match, err,
			s.sh(fmt.Sprintf("journalctl -q -o short-monotonic --no-hostname --cursor='%s' | tail -n 60", after)))
	}
	return fields
}

// property is a unit's property: "ActiveState".
func (s server) property(unit, name string) string {
	s.Helper()
	return s.sh(fmt.Sprintf("systemctl show --value -p %s '%s'", name, unit))
}

// transcript writes to a file and keeps the end of what the running check did.
type transcript struct {
	mu   sync.Mutex
	file *os.File
	tail bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tail.Write(p)
	return t.file.Write(p)
}

// section begins the part of a check.
func (t *transcript) section(title string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tail.Reset()
	fmt.Fprintf(t.file, "==== %s ====\n\n", title)
}

// excerpt is the end of the check's part.
func (t *transcript) excerpt() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.tail.String()
	return text[max(0, len(text)-6000):]
}
