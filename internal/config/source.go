package config

import (
	"fmt"

	"github.com/BurntSushi/toml"
)

// source is the file a configuration was read from.
type source struct{ path, text string }

// place says where a key stands, "FILE:LINE: KEY"; targets are counted from 1.
func (s *source) place(key toml.Key, index int) string {
	name := key.String()
	if len(key) > 1 && key[0] == "target" {
		name = fmt.Sprintf("target %d: %s", index+1, key[1:])
	}
	return fmt.Sprintf("%s:%d: %s", s.path, lineOf(s.text, key, index), name)
}

// Place says where a key stands, for an error that shows only when its value is used:
// what a path leads to may come and go. Without a file it is the key.
func (c *Config) Place(key ...string) string {
	if c.source == nil {
		return toml.Key(key).String()
	}
	return c.source.place(key, 0)
}

// Place is the same for a key of a target.
func (t Target) Place(key string) string {
	if t.source == nil {
		return key
	}
	return t.source.place(toml.Key{"target", key}, t.index)
}
