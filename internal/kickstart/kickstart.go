// Package kickstart chooses, checks and completes the file that answers the
// ESXi installer's questions.
//
// The way of a kickstart: Select picks the operator's override for a version
// (or the default), Lint checks it against the installer's grammar and against
// what is known to break unattended builds, and Render adds what esxid needs:
// the root password's hash, the start of the first-boot agent, and the success
// marker with the power-off. HashPassword and RandomPassword make the root
// password.
//
// The grammar is that of the scripted installation chapters of the ESXi
// 6.5-9.x installation guides ("Installation and Upgrade Script Commands").
// Where the guides are silent, the linter prefers an error that names the way
// out to an installation that waits for a key nobody presses.
package kickstart

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

// Version is the version of the ESXi that is installed.
type Version struct {
	Number string // "8.0.3", from 9.0 on with four parts: "9.0.0.0"; "" if unknown
	Build  string // "24677879", or "" if unknown
}

// Both come from the metadata of an ISO and become parts of file names, so
// nothing but digits and dots is let through.
var (
	versionNumber = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$`)
	versionBuild  = regexp.MustCompile(`^[0-9]{1,12}$`)
)

// Validate returns an error of class fault.Input unless v's parts are empty or
// well-formed.
func (v Version) Validate() error {
	if v.Number != "" && !versionNumber.MatchString(v.Number) {
		return fault.New(fault.Input, "cannot use %.40q as an ESXi version: write numbers and dots, for example 8.0.3", v.Number)
	}
	if v.Build != "" && !versionBuild.MatchString(v.Build) {
		return fault.New(fault.Input, "cannot use %.40q as an ESXi build number: write digits, for example 24677879", v.Build)
	}
	return nil
}

// before tells whether v is older than major.minor. An unknown version counts as
// the newest.
func (v Version) before(major, minor int) bool {
	if v.Number == "" || v.Validate() != nil {
		return false
	}
	parts := strings.Split(v.Number+".0", ".")
	a, _ := strconv.Atoi(parts[0]) // digits only, by Validate
	b, _ := strconv.Atoi(parts[1])
	return a < major || a == major && b < minor
}

// A Source is the chosen kickstart: one file and its additions, in order.
type Source struct {
	Layers []Layer
}

// A Layer is one file of a Source.
type Layer struct {
	Path string
	Text []byte
}

// Level is the weight of a finding.
type Level string

const (
	Error   Level = "error"   // the installation or the image would fail; Render refuses
	Warning Level = "warning" // works, but hardly as meant
	Note    Level = "note"    // good to know
)

// A Finding is one thing the linter has to say. Text names the problem and what
// to write instead, and never repeats a password, a hash, a licence key or a URL.
type Finding struct {
	File  string `json:"file"`
	Line  int    `json:"line"` // from 1
	Level Level  `json:"level"`
	Text  string `json:"text"`
}

// String returns "file:line: level: text".
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Level, f.Text)
}
