package kickstart

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxCommands is the installer's own limit.
const maxCommands = 256

// maxProblems bounds what a file that is no kickstart at all can bring up.
const maxProblems = 100

// ownMark begins the comment line above everything Render adds.
const ownMark = "# --- added by esxid: "

// A pos is a line of a Source: the layer's index and the line from 1.
type pos struct{ layer, line int }

// An argument is one word behind a command: an option, or with an empty name a
// positional argument.
type argument struct {
	name     string // "--disk"
	value    string
	hasValue bool // there was a "="
}

// A statement is one command line, or the header line of a section.
type statement struct {
	at   pos
	name string
	args []argument
}

// option returns the last argument with one of the given names: the one that
// counts for the installer.
func (s statement) option(names ...string) (argument, bool) {
	for i := len(s.args) - 1; i >= 0; i-- {
		for _, name := range names {
			if strings.EqualFold(s.args[i].name, name) {
				return s.args[i], true
			}
		}
	}
	return argument{}, false
}

func (s statement) has(names ...string) bool {
	_, ok := s.option(names...)
	return ok
}

func (s statement) positional() []string {
	var values []string
	for _, a := range s.args {
		if a.name == "" {
			values = append(values, a.value)
		}
	}
	return values
}

// A section is a script for %pre, %post or %firstboot: all lines up to the next
// section. There is no %end on ESXi.
type section struct {
	statement
	own  bool // added by Render
	body []bodyLine
}

type bodyLine struct {
	at   pos
	text string
}

// A problem is a finding on its way to become one.
type problem struct {
	at        pos
	level     Level
	installer bool // the installer warns too, so that "paranoid" makes it fatal
	text      string
}

// A script is a parsed Source.
type script struct {
	src      Source
	commands []statement
	sections []section
	marked   []pos // lines that begin with ownMark
	notText  bool  // a layer is something else, and was not parsed

	problems []problem
	dropped  *problem // stands for the problems beyond maxProblems
}

func (s *script) add(p problem) {
	if len(s.problems) < maxProblems {
		s.problems = append(s.problems, p)
		return
	}
	if s.dropped == nil {
		s.dropped = &problem{at: p.at, level: p.level, text: "there is more to say about the rest of this file; repair the findings above first"}
	}
	if p.level == Error {
		s.dropped.level = Error
	}
}

func (s *script) errorf(at pos, format string, args ...any) {
	s.add(problem{at: at, level: Error, text: fmt.Sprintf(format, args...)})
}

func (s *script) warnf(at pos, format string, args ...any) {
	s.add(problem{at: at, level: Warning, text: fmt.Sprintf(format, args...)})
}

func (s *script) notef(at pos, format string, args ...any) {
	s.add(problem{at: at, level: Note, text: fmt.Sprintf(format, args...)})
}

// installerWarnf is for what the installer itself warns about.
func (s *script) installerWarnf(at pos, format string, args ...any) {
	s.add(problem{at: at, level: Warning, installer: true, text: fmt.Sprintf(format, args...)})
}

// place writes a position for the use in another position's text.
func (s *script) place(at pos) string {
	return fmt.Sprintf("%s:%d", s.src.Layers[at.layer].Path, at.line)
}

// first returns the first command with one of the canonical names.
func (s *script) first(names ...string) (statement, bool) {
	i := slices.IndexFunc(s.commands, func(c statement) bool { return slices.Contains(names, canonical(c.name)) })
	if i < 0 {
		return statement{}, false
	}
	return s.commands[i], true
}

func (s *script) has(names ...string) bool {
	_, ok := s.first(names...)
	return ok
}

// parser is the state of parse between two lines.
type parser struct {
	*script
	open      *section // the section that takes body lines, or nil
	newLayer  bool     // in a section, and this layer has had no line of its own yet
	continued bool     // the previous command line ended in a backslash
	afterMark bool     // the last line with text began with ownMark
}

// parse takes src apart into commands and sections. It always returns a script;
// what is wrong with the text is among its problems.
func parse(src Source) *script {
	p := &parser{script: &script{src: src}}
	for i, layer := range src.Layers {
		if !p.checkText(i, layer.Text) {
			p.notText = true
			continue
		}
		p.newLayer, p.continued = p.open != nil, false
		for n, text := range splitLines(strings.TrimPrefix(string(layer.Text), bom)) {
			p.line(pos{i, n + 1}, strings.TrimSuffix(text, "\r"))
		}
	}
	p.closeSection()
	return p.script
}

const bom = "\xef\xbb\xbf"

// checkText reports what no kickstart may contain, once per kind, and returns
// false if the layer is not text at all.
func (p *parser) checkText(layer int, text []byte) bool {
	if bytes.IndexByte(text, 0) >= 0 {
		p.errorf(pos{layer, 1}, "this is not plain text (it contains NUL bytes); save it as ASCII text, not as UTF-16 or a document")
		return false
	}
	if bytes.HasPrefix(text, []byte(bom)) {
		p.errorf(pos{layer, 1}, "the file begins with a byte order mark, which the installer takes for a part of the first command; save the file as plain ASCII text")
		text = text[len(bom):]
	}
	var crlf, control, foreign int // first line with each
	for n, line := range bytes.Split(text, []byte("\n")) {
		if body, ok := bytes.CutSuffix(line, []byte("\r")); ok {
			line = body
			setOnce(&crlf, n+1)
		}
		for _, c := range line {
			switch {
			case c < ' ' && c != '\t', c == 0x7f:
				setOnce(&control, n+1)
			case c > 0x7f:
				setOnce(&foreign, n+1)
			}
		}
	}
	if crlf > 0 {
		p.errorf(pos{layer, crlf}, `lines end in CR LF, and the scripts would see the CR; convert the file with: sed -i 's/\r$//' FILE`)
	}
	if control > 0 {
		p.errorf(pos{layer, control}, "the line contains a control character; remove it")
	}
	if foreign > 0 {
		p.installerWarnf(pos{layer, foreign}, "the line contains characters outside of ASCII; the installer warns about them, write plain ASCII")
	}
	return true
}

func setOnce(line *int, n int) {
	if *line == 0 {
		*line = n
	}
}

// line takes the next line of a layer.
func (p *parser) line(at pos, text string) {
	if p.continued {
		p.continued = strings.HasSuffix(text, `\`)
		return
	}
	if strings.HasPrefix(text, ownMark) {
		p.marked = append(p.marked, at)
	}
	switch {
	case strings.HasPrefix(text, "%"):
		p.percent(at, text)
	case p.open != nil:
		p.body(at, text)
	default:
		p.command(at, text)
	}
	if strings.TrimSpace(text) != "" {
		p.afterMark = strings.HasPrefix(text, ownMark)
	}
}

// percent takes a line that begins with %.
func (p *parser) percent(at pos, text string) {
	keyword := firstWord(text)
	switch {
	case isSection(keyword):
		p.closeSection()
		p.open = &section{statement: newStatement(at, p.words(at, text)), own: p.afterMark}
		p.newLayer = false
		return
	case keyword == "%end":
		p.errorf(at, "there is no %%end on ESXi, the line would become a command of the script; delete it: a section ends where the next begins, or with the file")
	case p.open == nil:
		p.command(at, text)
		return
	case keyword == "%include":
		p.errorf(at, "%%include cannot stand in a section; move it in front of the first section")
	default:
		if near := closest(keyword, sectionKeywords); near != "" {
			p.errorf(at, "this looks like a misspelled section keyword and would become a part of %s; write %s", p.open.name, near)
		} else {
			p.warnf(at, "this line begins with %% but is no section keyword; it is taken as a part of %s", p.open.name)
		}
	}
	if p.open != nil {
		p.body(at, text)
	}
}

// firstWord returns the first word of a line, however it is quoted.
func firstWord(line string) string {
	line = strings.TrimLeft(line, " \t")
	if end := strings.IndexAny(line, " \t"); end >= 0 {
		return line[:end]
	}
	return line
}

// body takes a line inside of a section.
func (p *parser) body(at pos, text string) {
	trimmed := strings.TrimSpace(text)
	if first := firstWord(text); !strings.HasPrefix(text, "%") && (isSection(first) || first == "%end") {
		p.errorf(at, "section keywords must begin in the first column, so this line would become a part of %s; delete the blanks before it", p.open.name)
	}
	if p.newLayer && trimmed != "" && !strings.HasPrefix(trimmed, "#") {
		p.newLayer = false
		p.errorf(at, "this line would become a part of %s, which begins at %s and has no end; begin this file with a section, or move its commands in front of the first section there",
			p.open.name, p.place(p.open.at))
	}
	p.open.body = append(p.open.body, bodyLine{at, text})
}

// command takes a line outside of sections.
func (p *parser) command(at pos, text string) {
	words := p.words(at, text)
	if len(words) == 0 {
		return
	}
	if isSection(words[0]) {
		p.errorf(at, "a section keyword must begin in the first column and be followed by a blank or the end of the line; write %s so", words[0])
	}
	switch n := len(p.commands); {
	case n == maxCommands:
		p.errorf(at, "the installer reads at most %d commands; remove the rest", maxCommands)
	case n > maxCommands:
		return
	}
	p.commands = append(p.commands, newStatement(at, words))
}

// words cuts a command line and reports what is wrong with it. A line that is
// continued is taken as far as it goes, and its continuation is skipped.
func (p *parser) words(at pos, text string) []string {
	words, cut, err := splitWords(text)
	if err != nil {
		p.errorf(at, "%v", err)
		p.continued = errors.Is(err, errOpenEscape)
	}
	if cut {
		p.warnf(at, "the # begins a comment although there is no blank before it; put the word in quotes if # is a part of it")
	}
	return words
}

func (p *parser) closeSection() {
	if p.open != nil {
		p.sections = append(p.sections, *p.open)
		p.open = nil
	}
}

func newStatement(at pos, words []string) statement {
	s := statement{at: at, name: words[0]}
	for _, w := range words[1:] {
		a := argument{value: w, hasValue: true}
		if strings.HasPrefix(w, "--") {
			a.name, a.value, a.hasValue = strings.Cut(w, "=")
		}
		s.args = append(s.args, a)
	}
	return s
}
