package kickstart

import (
	"path"
	"slices"
	"sort"
	"strings"
)

// A shellCommand is one simple command of a busybox script, with its words
// unquoted and variables left alone.
type shellCommand struct {
	at      pos
	words   []string
	writes  []string // targets of >
	appends []string // targets of >>
	polls   bool     // in the condition of a loop, or in a loop that sleeps
}

// A hereDoc is a here-document whose end mark the shell would not find.
type hereDoc struct {
	at       pos  // of the mark that is not in the first column, else of the <<
	indented bool // there is such a mark
}

// wrappers run the command that follows them.
var wrappers = []string{"exec", "nohup", "busybox", "command", "env", "setsid", "time"}

// argv returns the words from the command's name on, the name without its
// directory: assignments and wrappers are dropped. It may be empty.
func (c shellCommand) argv() []string {
	for i, w := range c.words {
		if base := path.Base(w); !strings.Contains(w, "=") && !slices.Contains(wrappers, base) {
			return append([]string{base}, c.words[i+1:]...)
		}
	}
	return nil
}

const (
	maxNesting  = 32 // of $( ) and ( ), and of loops
	maxHereDocs = 100
)

// scanShell takes a script apart far enough to tell commands from comments,
// strings and here-documents. It is no shell: it expands nothing, and what it
// does not understand becomes an odd command that no rule knows.
func scanShell(body []bodyLine) ([]shellCommand, []hereDoc) {
	s := newShellScanner(body, 0)
	s.scan()
	return s.commands, s.badHereDocs
}

type shellScanner struct {
	body   []bodyLine
	text   string // the body's lines, each with a line feed
	starts []int  // where each line begins in text
	depth  int    // of sh -c "…"
	i      int    // the next byte

	frame               // the command being read
	outer   []frame     // those around it
	loops   []loop      // open while, until and for loops
	pattern bool        // between "in" or ";;" and ")" of a case
	awaited []hereStart // here-documents that begin at the next line
	docs    int         // all here-documents so far

	commands    []shellCommand
	badHereDocs []hereDoc
}

// A frame is an unfinished command.
type frame struct {
	cmd        shellCommand
	word       []byte
	inWord     bool
	redirect   string // the operator whose target the next word is
	redirectAt int
}

type loop struct {
	first     int // the first of its commands
	condition bool
	sleeps    bool
}

type hereStart struct {
	mark string
	tabs bool // <<-: tabs may stand before the mark
	at   pos
}

func newShellScanner(body []bodyLine, depth int) *shellScanner {
	s := &shellScanner{body: body, depth: depth}
	var text strings.Builder
	for _, line := range body {
		s.starts = append(s.starts, text.Len())
		text.WriteString(line.text)
		text.WriteByte('\n')
	}
	s.text = text.String()
	return s
}

func (s *shellScanner) scan() {
	for s.i < len(s.text) {
		rest := s.text[s.i:]
		switch c := rest[0]; {
		case c == '\n':
			s.endCommand()
			s.i++
			s.hereDocs()
		case c == ' ' || c == '\t' || c == '\r':
			s.endWord()
			s.i++
		case c == '#' && !s.inWord:
			s.i += strings.IndexByte(rest, '\n') // every line has one
		case strings.HasPrefix(rest, "\\\n"):
			s.i += 2
		case c == '\\':
			s.put(rest[1:2], 2)
		case c == '\'':
			s.putUntil("'", 1)
		case c == '"':
			s.doubleQuoted()
		case strings.HasPrefix(rest, "$(("):
			s.putUntil("))", 3)
		case strings.HasPrefix(rest, "${"):
			s.putUntil("}", 2)
		case strings.HasPrefix(rest, "$("):
			s.put("", 2)
			s.push()
		case c == '(':
			s.parenthesis()
		case c == ')':
			s.closeParenthesis()
		case c == '<' || c == '>':
			s.redirection()
		case strings.HasPrefix(rest, ";;"):
			s.endCommand()
			s.pattern = true
			s.i += 2
		case strings.IndexByte(";&|`", c) >= 0:
			s.endCommand()
			s.i++
		default:
			s.put(rest[:1], 1)
		}
	}
	s.endCommand()
}

// put adds text to the current word and moves on by n bytes.
func (s *shellScanner) put(text string, n int) {
	if s.cmd.at == (pos{}) {
		s.cmd.at = s.place(s.i)
	}
	s.inWord = true
	s.word = append(s.word, text...)
	s.i += n
}

// putUntil adds what stands between the next n bytes and end.
func (s *shellScanner) putUntil(end string, n int) {
	text, _, found := strings.Cut(s.text[s.i+n:], end)
	if found {
		n += len(end)
	}
	s.put(text, n+len(text))
}

func (s *shellScanner) doubleQuoted() {
	s.put("", 1)
	for s.i < len(s.text) && s.text[s.i] != '"' {
		if s.text[s.i] == '\\' && s.i+1 < len(s.text) {
			s.i++
		}
		s.put(s.text[s.i:s.i+1], 1)
	}
	s.i = min(s.i+1, len(s.text))
}

func (s *shellScanner) push() {
	if len(s.outer) < maxNesting {
		s.outer = append(s.outer, s.frame)
	}
	s.frame = frame{}
}

// parenthesis takes "(": of a function's definition, of a case pattern or of a
// subshell.
func (s *shellScanner) parenthesis() {
	s.endWord()
	s.i++
	after := strings.TrimLeft(s.text[s.i:], " \t")
	switch {
	case len(s.cmd.words) == 1 && strings.HasPrefix(after, ")"):
		s.i = len(s.text) - len(after) + 1
		s.frame = frame{}
	case !s.pattern:
		s.endCommand()
		s.push()
	}
}

// closeParenthesis takes ")": the end of a case pattern or of what push began.
func (s *shellScanner) closeParenthesis() {
	s.i++
	if s.pattern || len(s.outer) == 0 {
		s.pattern = false
		s.frame = frame{}
		return
	}
	s.endCommand()
	s.frame = s.outer[len(s.outer)-1]
	s.outer = s.outer[:len(s.outer)-1]
}

// redirection takes an operator that begins with < or >.
func (s *shellScanner) redirection() {
	if strings.Trim(string(s.word), "0123456789") == "" {
		s.word, s.inWord = nil, false // a file descriptor's number
	}
	s.endWord()
	for _, op := range []string{"<<-", "<<", "<&", "<>", "<", ">>", ">&", ">|", ">"} {
		if strings.HasPrefix(s.text[s.i:], op) {
			s.redirect, s.redirectAt = op, s.i
			s.i += len(op)
			return
		}
	}
}

func (s *shellScanner) endWord() {
	if !s.inWord {
		return
	}
	word := string(s.word)
	switch s.redirect {
	case "":
		s.cmd.words = append(s.cmd.words, word)
	case ">>":
		s.cmd.appends = append(s.cmd.appends, word)
	case ">", ">|":
		s.cmd.writes = append(s.cmd.writes, word)
	case "<<", "<<-":
		s.awaited = append(s.awaited, hereStart{word, s.redirect == "<<-", s.place(s.redirectAt)})
	}
	s.word, s.inWord, s.redirect = nil, false, ""
}

// place returns the position of the byte at offset in text.
func (s *shellScanner) place(offset int) pos {
	n := sort.Search(len(s.starts), func(n int) bool { return s.starts[n] > offset })
	return s.body[max(n, 1)-1].at
}
