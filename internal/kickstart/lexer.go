package kickstart

import (
	"errors"
	"strings"
)

var (
	errOpenQuote  = errors.New("a quote is opened on this line and never closed; close it, or put a backslash before it if it is meant as a character")
	errOpenEscape = errors.New("the line ends in a backslash; the installer reads one command per line: write all of it on this line")
)

// splitLines cuts text into lines without their line feeds. A final line feed
// does not begin another line.
func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// splitWords cuts a command line into words as the installer, a Python program,
// does: by the POSIX rules of Python's shlex with comments. Words are separated
// by blanks; '…' takes all characters as they are; "…" too, except that a
// backslash protects a quote or a backslash; outside of quotes a backslash
// protects any character. Unlike in a shell, # begins a comment also inside an
// unquoted word; cut tells that this happened.
//
// With an error come the words up to there.
func splitWords(line string) (words []string, cut bool, err error) {
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\r':
			endWord()
		case '#':
			cut = inWord
			endWord()
			return words, cut, nil
		case '\'', '"':
			inWord = true
			end, ok := quoted(&word, line, i)
			if !ok {
				endWord()
				return words, false, errOpenQuote
			}
			i = end
		case '\\':
			if i++; i == len(line) {
				endWord()
				return words, false, errOpenEscape
			}
			inWord = true
			word.WriteByte(line[i])
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	endWord()
	return words, false, nil
}

// quoted appends the text between the quote at line[start] and its partner to
// word, and returns the partner's index.
func quoted(word *strings.Builder, line string, start int) (end int, ok bool) {
	quote := line[start]
	for i := start + 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == quote:
			return i, true
		case c == '\\' && quote == '"':
			if i++; i == len(line) {
				return 0, false
			}
			if line[i] != '"' && line[i] != '\\' {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
		}
	}
	return 0, false
}
