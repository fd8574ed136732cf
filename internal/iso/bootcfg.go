package iso

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

// maxBootConfig bounds a boot.cfg. Real ones have 2 to 4 KiB.
const maxBootConfig = 64 << 10

// bootConfig is the boot loader's configuration, boot.cfg, as vmware/esx-boot
// reads it: one key=value per line; keys are compared without regard to case;
// blanks around "=" do not count, and white space inside a value is one blank;
// a line that begins with "#" is a comment; of a repeated key the last line
// wins. Lines are kept as they stand in the file, so that one that is not
// edited is written back unchanged, line end included.
type bootConfig struct {
	lines []bootLine
}

type bootLine struct {
	text  string // without its line end
	end   string // "\n" or "\r\n"; "" on a last line that has none
	key   string // lower case; "" for comments and what is not key=value
	value string
}

// bootNumbers are the keys whose value must be empty or a number: anything else
// is a syntax error that stops the boot.
var bootNumbers = []string{
	"nobootif", "timeout", "noquirks", "norts", "runtimewd", "runtimewdtimeout", "tftpblksize", "skip", "errtimeout",
	"updated", "bootstate", "quickboot",
}

// parseBootConfig reads a boot.cfg. Unknown keys are kept and not looked at.
func parseBootConfig(data []byte) (*bootConfig, error) {
	switch {
	case len(data) > maxBootConfig:
		return nil, fmt.Errorf("it has more than %d bytes", maxBootConfig)
	case bytes.IndexByte(data, 0) >= 0:
		return nil, fmt.Errorf("it is not a text file")
	}
	c := &bootConfig{}
	for text := range strings.Lines(string(data)) {
		l := newBootLine(text)
		if slices.Contains(bootNumbers, l.key) && l.value != "" && !isNumber(l.value) {
			return nil, fmt.Errorf("line %d: the value of %s is not a number: %q", len(c.lines)+1, l.key, printable(l.value))
		}
		c.lines = append(c.lines, l)
	}
	return c, nil
}

func newBootLine(text string) bootLine {
	var l bootLine
	l.text = strings.TrimSuffix(text, "\n")
	if l.text != text && strings.HasSuffix(l.text, "\r") {
		l.text = strings.TrimSuffix(l.text, "\r")
	}
	l.end = text[len(l.text):]
	key, value, found := strings.Cut(l.text, "=")
	if key = strings.Join(blanks(key), " "); found && !strings.HasPrefix(key, "#") {
		l.key, l.value = strings.ToLower(key), strings.Join(blanks(value), " ")
	}
	return l
}

// blanks splits a line at white space as C's isspace has it; a non-breaking
// space in UTF-8 is not one.
func blanks(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) })
}

func isNumber(s string) bool {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// line returns the line that decides the value of key, or nil.
func (c *bootConfig) line(key string) *bootLine {
	for i := len(c.lines) - 1; i >= 0; i-- {
		if c.lines[i].key == key {
			return &c.lines[i]
		}
	}
	return nil
}

// get returns the value of key, "" if it is empty or missing.
func (c *bootConfig) get(key string) string {
	if l := c.line(key); l != nil {
		return l.value
	}
	return ""
}

// kernelOptions returns the tokens of kernelopt.
func (c *bootConfig) kernelOptions() []string { return blanks(c.get("kernelopt")) }

// files returns the paths of the kernel and of all modules, as written.
func (c *bootConfig) files() []string {
	files := []string{c.get("kernel")}
	for module := range strings.SplitSeq(c.get("modules"), "---") {
		if words := blanks(module); len(words) > 0 {
			files = append(files, words[0]) // options follow the path
		}
	}
	return files
}

// setKernelOptions replaces the value of kernelopt, on the line that decides it
// or, if there is none, on a new one at the end.
func (c *bootConfig) setKernelOptions(tokens []string) {
	value := strings.Join(tokens, " ")
	if l := c.line("kernelopt"); l != nil {
		l.text = l.text[:strings.IndexByte(l.text, '=')+1] + value
		l.value = value
		return
	}
	end := "\n"
	if n := len(c.lines); n > 0 {
		if strings.HasSuffix(c.lines[0].end, "\n") {
			end = c.lines[0].end
		}
		if c.lines[n-1].end == "" {
			c.lines[n-1].end = end
		}
	}
	c.lines = append(c.lines, newBootLine("kernelopt="+value+end))
}

// text returns the file's text.
func (c *bootConfig) text() []byte {
	var b bytes.Buffer
	for _, l := range c.lines {
		b.WriteString(l.text)
		b.WriteString(l.end)
	}
	return b.Bytes()
}

// BootOptions is a change of the installer's kernel options. An option is a
// word without blanks, "name" or "name=value"; options are matched by name,
// without regard to case.
type BootOptions struct {
	Add    []string // each takes the place of an option of the same name, else goes to the end
	Remove []string
}

// check returns an error for an option that boot.cfg cannot express.
func (o BootOptions) check() error {
	for _, option := range slices.Concat(o.Add, o.Remove) {
		bad := strings.IndexFunc(option, func(r rune) bool { return r <= ' ' || r > '~' })
		if bad >= 0 || optionName(option) == "" {
			return fault.New(fault.Config, "cannot use the kernel option %q: give one word of ASCII characters per option", option)
		}
	}
	return nil
}

// apply returns tokens with the change made.
func (o BootOptions) apply(tokens []string) []string {
	for _, option := range o.Remove {
		tokens = slices.DeleteFunc(tokens, sameOption(option))
	}
	for _, option := range o.Add {
		at := slices.IndexFunc(tokens, sameOption(option))
		if at < 0 {
			tokens = append(tokens, option)
			continue
		}
		tokens[at] = option
		rest := slices.DeleteFunc(tokens[at+1:], sameOption(option))
		tokens = tokens[:at+1+len(rest)]
	}
	return tokens
}

// sameOption returns a function that tells whether an option has option's name.
func sameOption(option string) func(string) bool {
	name := optionName(option)
	return func(o string) bool { return strings.EqualFold(optionName(o), name) }
}

func optionName(option string) string {
	name, _, _ := strings.Cut(option, "=")
	return name
}
