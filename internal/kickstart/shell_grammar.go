package kickstart

import (
	"slices"
	"sort"
	"strings"
)

// endCommand records the command that ends here, unless it is only a piece of
// the shell's grammar.
func (s *shellScanner) endCommand() {
	s.endWord()
	cmd := s.cmd
	s.frame = frame{}
	if s.pattern {
		s.pattern = len(cmd.words) == 0 || cmd.words[0] != "esac"
		return
	}
	cmd.words = s.reserved(cmd.words)
	if len(cmd.words) == 0 && len(cmd.writes)+len(cmd.appends) == 0 {
		return
	}
	for _, l := range s.loops {
		cmd.polls = cmd.polls || l.condition
	}
	s.commands = append(s.commands, cmd)
	argv := cmd.argv()
	if len(argv) == 0 {
		return
	}
	switch argv[0] {
	case "sleep", "usleep":
		for i := range s.loops {
			s.loops[i].sleeps = true
		}
	case "sh", "ash":
		if i := slices.Index(argv, "-c"); i > 0 && i+1 < len(argv) {
			s.nested(cmd.at, argv[i+1])
		}
	case "eval":
		s.nested(cmd.at, strings.Join(argv[1:], " "))
	}
}

// reserved takes reserved words off the front of words and follows the loops.
func (s *shellScanner) reserved(words []string) []string {
	for len(words) > 0 {
		switch words[0] {
		case "if", "then", "else", "elif", "!", "{", "}", "fi", "esac":
		case "while", "until":
			s.beginLoop(true)
		case "for":
			s.beginLoop(false)
			return nil
		case "do":
			if n := len(s.loops); n > 0 {
				s.loops[n-1].condition = false
			}
		case "done":
			s.endLoop()
			return nil
		case "case":
			s.pattern = words[len(words)-1] == "in"
			return nil
		default:
			return words
		}
		words = words[1:]
	}
	return nil
}

func (s *shellScanner) beginLoop(condition bool) {
	if len(s.loops) < maxNesting {
		s.loops = append(s.loops, loop{first: len(s.commands), condition: condition})
	}
}

func (s *shellScanner) endLoop() {
	n := len(s.loops)
	if n == 0 {
		return
	}
	if l := s.loops[n-1]; l.sleeps {
		for i := l.first; i < len(s.commands); i++ {
			s.commands[i].polls = true
		}
	}
	s.loops = s.loops[:n-1]
}

// nested scans a script given as an argument.
func (s *shellScanner) nested(at pos, text string) {
	if s.depth == 2 {
		return
	}
	var body []bodyLine
	for _, line := range splitLines(text) {
		body = append(body, bodyLine{at, line})
	}
	inner := newShellScanner(body, s.depth+1)
	inner.scan()
	s.commands = append(s.commands, inner.commands...)
}

// hereDocs skips the here-documents announced on the line that has just ended.
func (s *shellScanner) hereDocs() {
	for _, doc := range s.awaited {
		if s.docs++; s.docs > maxHereDocs {
			s.i = len(s.text)
			break
		}
		s.skipHereDoc(doc)
	}
	s.awaited = nil
}

func (s *shellScanner) skipHereDoc(doc hereStart) {
	indented := -1
	first := sort.SearchInts(s.starts, s.i)
	for n := first; n < len(s.body); n++ {
		line := s.body[n].text
		if line == doc.mark || doc.tabs && strings.TrimLeft(line, "\t") == doc.mark {
			s.i = s.starts[n] + len(line) + 1
			return
		}
		if indented < 0 && strings.TrimSpace(line) == doc.mark {
			indented = n
		}
	}
	if indented < 0 {
		s.badHereDocs = append(s.badHereDocs, hereDoc{at: doc.at})
		s.i = len(s.text)
		return
	}
	s.badHereDocs = append(s.badHereDocs, hereDoc{at: s.body[indented].at, indented: true})
	s.i = s.starts[indented] + len(s.body[indented].text) + 1
}
