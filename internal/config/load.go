package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/esxid/esxid/internal/fault"
)

// maxFile bounds the size of a configuration file, in bytes.
const maxFile = 1 << 20

// Load reads and validates a configuration file. Its errors have the class
// fault.Config, or fault.NotPermitted when the file may not be read.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fault.New(fault.NotPermitted, "cannot read the configuration: %w: run this as a member of the group esxid, or name another file with --config", err)
	}
	if err != nil {
		return nil, fault.New(fault.Config, "cannot read the configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.New(fault.Config, "cannot read the configuration: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fault.New(fault.Config, "cannot read the configuration %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, fault.New(fault.Config, "cannot read the configuration %s: it is larger than %d bytes", path, maxFile)
	}
	c, err := parse(path, string(text))
	if err != nil {
		return nil, err
	}
	if c.RootPassword.Hash != "" && info.Mode().Perm()&0o007 != 0 {
		return nil, fault.New(fault.Config, "%s holds a password hash (root_password.hash) and is open to every user: chmod 0640 %s", path, path)
	}
	return c, nil
}

// parse decodes and validates text; path is for messages.
func parse(path, text string) (*Config, error) {
	c := Default()
	meta, err := toml.Decode(text, c)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, fault.New(fault.Config, "%s:%d: %s", path, pe.Position.Line, decodeMessage(pe))
		}
		if m := typeError.FindStringSubmatch(err.Error()); m != nil {
			return nil, fault.New(fault.Config, "%s:%s: %s: %s", path, m[1], m[2], typeMessage(m[3]))
		}
		return nil, fault.New(fault.Config, "%s: %w", path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return nil, fault.New(fault.Config, "%s:%d: unknown key %s: see config.example.toml for the keys there are", path, lineOf(text, key, 0), key)
	}
	src := &source{path, text}
	c.source = src
	for i := range c.Targets {
		t := &c.Targets[i]
		t.source, t.index = src, i
		if t.Type == TargetMAAS && t.ChunkSize == 0 {
			t.ChunkSize = DefaultChunkSize
		}
	}
	if p := c.validate(); p != nil {
		return nil, fault.New(fault.Config, "%s: %s", src.place(p.key, p.index), p.message)
	}
	return c, nil
}

// typeError takes the library's message about a value of the wrong type apart,
// which has a position only in its text.
var typeError = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (.*)$`)

// wrongType is the library's message about a wrong type, in the words of Go.
var wrongType = regexp.MustCompile(`^(?:incompatible types: TOML value has type .*; destination has type (.*)|type mismatch for .*: expected (table) but found .*)$`)

// typeMessage says in the words of the file what kind of value a key has.
func typeMessage(message string) string {
	m := wrongType.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	kinds := map[string]string{
		"string": `text in quotes ("...")`, "primitive (string-like)": `text in quotes ("...")`,
		"integer": "a number without quotes", "float": "a number without quotes", "boolean": "true or false without quotes",
		"slice": "a list ([...])", "map": "a table ([...])", "table": "a table ([...])",
	}
	if kind := kinds[m[1]+m[2]]; kind != "" {
		return "want " + kind
	}
	return message
}

// decodeMessage is the library's message without its own position.
func decodeMessage(pe toml.ParseError) string {
	if pe.LastKey != "" {
		return fmt.Sprintf("%s: %s", pe.LastKey, pe.Message)
	}
	return pe.Message
}

// lineOf returns the line a key stands on, or the line of its table when the
// key itself is not in the file, or 1. index tells the tables of an array
// ([[target]]) apart. The library reports no positions of decoded keys.
func lineOf(text string, key toml.Key, index int) int {
	table, seen, best := "", -1, 1
	want := key.String()
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			isArray := strings.HasPrefix(line, "[[")
			table = normalize(strings.Trim(line, "[] \t"))
			if isArray && len(key) > 0 && table == key[0] {
				seen++
			}
			if (want == table || strings.HasPrefix(want, table+".")) && (!isArray || seen == index) {
				best = i + 1
			}
			continue
		}
		name, _, isKey := strings.Cut(line, "=")
		if !isKey {
			continue
		}
		full := normalize(name)
		if table != "" {
			full = table + "." + full
		}
		if full == want && (seen < 0 || table != key[0] || seen == index) {
			return i + 1
		}
	}
	return best
}

// normalize brings a written key into the form of toml.Key.String.
func normalize(s string) string {
	var parts []string
	for part := range strings.SplitSeq(s, ".") {
		parts = append(parts, strings.TrimSpace(part))
	}
	// A quoted part may contain dots ("8.0"); joining mends what the split tore.
	return strings.ReplaceAll(strings.Join(parts, "."), "'", `"`)
}
