package weasel

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Problem is something wrong with a kickstart.
type Problem struct {
	Line  int  // 0: of the whole file
	Fatal bool // an error stops the installation, a warning is logged
	Text  string
}

func (p Problem) String() string {
	level := "warning"
	if p.Fatal {
		level = "error"
	}
	if p.Line == 0 {
		return level + ": " + p.Text
	}
	return fmt.Sprintf("%s:line %d: %s", level, p.Line, p.Text)
}

// Command is one line outside of sections.
type Command struct {
	Name string
	Args []string
	Line int
}

// Script is a %pre, %post or %firstboot section.
type Script struct {
	Kind          string // "pre", "post" or "firstboot"
	Interpreter   string // "busybox" or "python"
	Timeout       time.Duration
	IgnoreFailure bool
	Body          string
	Line          int
}

// Kickstart is an installation script, taken apart.
type Kickstart struct {
	Commands []Command
	Scripts  []Script
	Problems []Problem
}

// maxCommands is the installer's own limit.
const maxCommands = 256

func (k *Kickstart) fail(line int, format string, args ...any) {
	k.Problems = append(k.Problems, Problem{line, true, fmt.Sprintf(format, args...)})
}

func (k *Kickstart) warn(line int, format string, args ...any) {
	k.Problems = append(k.Problems, Problem{line, false, fmt.Sprintf(format, args...)})
}

// Parse takes a kickstart apart without judging its commands. A section lasts
// until the next one or the end of the file; there is no %end.
func Parse(text string) *Kickstart {
	k := &Kickstart{}
	if strings.ContainsFunc(text, func(c rune) bool { return c > 127 }) {
		k.warn(0, "there are characters beyond ASCII")
	}
	var section *Script
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if isSection(line) {
			section = k.startSection(n+1, line)
			continue
		}
		if section != nil {
			section.Body += line + "\n"
			continue
		}
		words, err := split(line)
		if err != nil {
			k.fail(n+1, "%v", err)
		}
		if len(words) > 0 {
			k.Commands = append(k.Commands, Command{words[0], words[1:], n + 1})
		}
	}
	if len(k.Commands) > maxCommands {
		k.fail(0, "there are %d commands, more than %d", len(k.Commands), maxCommands)
	}
	return k
}

// isSection: the keyword must stand at the start of the line. %include is a
// command, and %end is not known at all.
func isSection(line string) bool {
	for _, keyword := range []string{"%pre", "%post", "%firstboot", "%packages"} {
		if rest, ok := strings.CutPrefix(line, keyword); ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r")) {
			return true
		}
	}
	return false
}

func (k *Kickstart) startSection(line int, header string) *Script {
	words, err := split(header)
	if err != nil {
		k.fail(line, "%v", err)
		words = strings.Fields(header)[:1]
	}
	s := Script{Kind: words[0][1:], Interpreter: "busybox", Line: line}
	if s.Kind == "packages" {
		k.warn(line, "%%packages is deprecated and ignored")
		return &s
	}
	given := false
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "--interpreter":
			given, s.Interpreter = true, value
			if value != "busybox" && value != "python" {
				k.fail(line, "the interpreter %q is neither busybox nor python", value)
			}
		case "--timeout":
			seconds, err := strconv.Atoi(value)
			if err != nil || seconds < 0 || s.Kind != "post" {
				k.fail(line, "bad %s", word)
			}
			s.Timeout = time.Duration(seconds) * time.Second
		case "--ignorefailure":
			if value != "true" && value != "false" || s.Kind != "post" {
				k.fail(line, "bad %s", word)
			}
			s.IgnoreFailure = value == "true"
		default:
			k.warn(line, "%s: unknown argument %q", words[0], word)
		}
	}
	if !given {
		k.warn(line, "%s has no --interpreter, busybox is assumed", words[0])
	}
	k.Scripts = append(k.Scripts, s)
	return &k.Scripts[len(k.Scripts)-1]
}

// split takes a line apart like a shell: words, quotes, backslashes, and a
// comment from # on.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && c == '#':
			i = len(line)
		case quote == 0 && strings.IndexByte(" \t\r", c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
