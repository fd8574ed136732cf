package kickstart

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

// Options is what Render adds to a kickstart.
type Options struct {
	PasswordHash string // root's: $6$SALT$HASH, see HashPassword
	Marker       string // what %post writes to the log when it runs: 8 to 64 of A-Z a-z 0-9 -
	FirstBoot    []byte // a busybox script for %firstboot; none if empty
	Version      Version
}

var marker = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)

const changedMark = "# --- changed by esxid: "

// Render returns the file the installer gets: src's text, byte for byte except
// for rootpw lines, and between lines that begin with "# --- added by esxid" the
// root password, the first-boot script, and behind all of the operator's
// sections a %post that writes the marker into the VMkernel log (which goes to
// the serial port) and switches the VM off.
//
// The installer copies all section bodies into the same log while it reads the
// file. So the marker is made from two shell variables, and Marker itself does
// not occur in the result.
//
// If Lint has errors, or src contains the marker, the error is of class
// fault.Input; wrong Options give fault.Config.
func Render(src Source, o Options) ([]byte, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := firstError(lint(src, o.Version, false)); err != nil {
		return nil, fault.New(fault.Input, "cannot use the kickstart: %w", err)
	}

	parsed := parse(src)
	var out bytes.Buffer
	if !parsed.has("rootpw") {
		fmt.Fprintf(&out, "%sthe root password ---\nrootpw --iscrypted %s\n\n", ownMark, o.PasswordHash)
	}
	for i := range src.Layers {
		parsed.copyLayer(&out, i, o.PasswordHash)
	}
	if len(o.FirstBoot) > 0 {
		fmt.Fprintf(&out, "\n%sthe start of the first-boot agent ---\n%%firstboot --interpreter=busybox\n", ownMark)
		out.Write(withLineFeed(o.FirstBoot))
	}
	half := len(o.Marker) / 2
	fmt.Fprintf(&out, "\n%sthe success marker and the power-off ---\n%%post --interpreter=busybox --ignorefailure=true\n%s", ownMark, postBody(o.Marker[:half], o.Marker[half:]))

	if err := checkRendered(out.Bytes(), o); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (o Options) validate() error {
	if !sha512Hash.MatchString(o.PasswordHash) {
		return fault.New(fault.Config, "cannot use the root password's hash: it is not of the form $6$SALT$HASH (without rounds=); make one with: openssl passwd -6")
	}
	if !marker.MatchString(o.Marker) {
		return fault.New(fault.Config, "cannot use the success marker: it must be 8 to 64 letters, digits and hyphens")
	}
	return o.Version.Validate()
}

// postBody is the script of esxid's own %post. The log has no way to say that a
// line has left the serial port, hence the pause; the system is stopped without
// its shutdown scripts because these wait for services the installer does not
// run.
func postBody(a, b string) string {
	return "a='" + a + "'\n" +
		"b='" + b + "'\n" +
		`vsish -e set /system/log "$a$b"` + "\n" +
		"sleep 2\n" +
		"poweroff -f\n"
}

// copyLayer writes a layer with its rootpw lines replaced. Of several the last
// one counts for the installer, but each may hold a clear text.
func (s *script) copyLayer(out *bytes.Buffer, layer int, hash string) {
	replace := map[int]bool{}
	for _, c := range s.commands {
		if c.at.layer == layer && c.name == "rootpw" {
			replace[c.at.line] = true
		}
	}
	if path := s.src.Layers[layer].Path; layer > 0 {
		name := filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))
		fmt.Fprintf(out, "\n# --- %s ---\n", strings.Map(printable, name))
	}
	text := s.src.Layers[layer].Text
	for n, line := range bytes.SplitAfter(text, []byte("\n")) {
		if replace[n+1] {
			fmt.Fprintf(out, "%sthe root password is the one of its configuration ---\nrootpw --iscrypted %s\n", changedMark, hash)
			continue
		}
		out.Write(line)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' && out.Bytes()[out.Len()-1] != '\n' {
		out.WriteByte('\n')
	}
}

// printable keeps a file name from ending the comment that shows it.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

func withLineFeed(text []byte) []byte {
	if bytes.HasSuffix(text, []byte("\n")) {
		return text
	}
	return append(bytes.Clone(text), '\n')
}

// checkRendered makes sure that what was added has not broken the file: a line
// of the first-boot script that begins with a section keyword would.
func checkRendered(text []byte, o Options) error {
	if bytes.Contains(text, []byte(o.Marker)) {
		return fault.New(fault.Input, "cannot use the kickstart: it contains the success marker of this build; remove that text")
	}
	result := Source{Layers: []Layer{{Path: "rendered kickstart", Text: text}}}
	own := 0
	for _, s := range parse(result).sections {
		if s.own {
			own++
		}
	}
	want := 1
	if len(o.FirstBoot) > 0 {
		want = 2
	}
	if own != want {
		return fmt.Errorf("cannot render the kickstart: %d sections of esxid instead of %d", own, want)
	}
	if err := firstError(lint(result, o.Version, true)); err != nil {
		return fmt.Errorf("cannot render the kickstart: %w", err)
	}
	return nil
}

// firstError makes an error of the first finding that is one.
func firstError(findings []Finding) error {
	var first *Finding
	more := 0
	for i, f := range findings {
		switch {
		case f.Level != Error:
		case first == nil:
			first = &findings[i]
		default:
			more++
		}
	}
	if first == nil {
		return nil
	}
	if more > 0 {
		return fmt.Errorf("%s:%d: %s (and %d more; \"esxid lint\" shows them all)", first.File, first.Line, first.Text, more)
	}
	return fmt.Errorf("%s:%d: %s", first.File, first.Line, first.Text)
}
