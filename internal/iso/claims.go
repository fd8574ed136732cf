package iso

import (
	"fmt"
	"regexp"
	"strings"
)

// A claim is what one place in an image says about the release in it. What it
// does not say is "".
type claim struct {
	source  string // where it stands, for messages
	version string // "8.0.3", "6.7.0", "9.0.0.0"; from a name perhaps only "8.0"
	update  string // "U3e", "U1", "b"
	build   string // "24677879"
	// A binding claim is part of what the installer itself works with. Two
	// of them that disagree mean that the image is put together wrongly.
	binding bool
}

var (
	versionText = regexp.MustCompile(`^[1-9]\d?\.\d{1,2}\.\d{1,3}(\.\d{1,5})?$`)
	buildText   = regexp.MustCompile(`^\d{7,9}$`)
	digits      = regexp.MustCompile(`\d+`)

	// An eight-digit date, as some file names have; no build.
	dateText = regexp.MustCompile(`^20[12]\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$`)

	// How releases are written in names. Vendors differ; what follows the
	// release proper holds the build, if anything does.
	nameForms = []*regexp.Regexp{
		// ESXi-8.0U3e-  ESXi-6.7.0-  Installer-6.7.0.update03-
		// ESXi-7.0-Update3-  ESXi-7.0.3d-  ESXi-9.0.0.0.24755229
		regexp.MustCompile(`(?i)(?:esxi?|installer)[ _-]*v?(?P<major>[1-9]\d?)\.(?P<minor>\d{1,2})(?:\.(?P<third>\d{1,2})(?:\.(?P<fourth>\d{1,4}))?)?` +
			`(?:[ ._-]*u(?:pdate)?[ -]?0?(?P<update>\d))?(?P<letter>[a-z])?(?:[^0-9a-z]|$)`),
		// ESXi_803.24280767 (Dell)  ESXi-70U1- (Cisco)
		regexp.MustCompile(`(?i)esxi?[ _-]*(?P<major>[1-9])(?P<minor>\d)u?(?P<update>\d)(?P<letter>[a-z])?(?:[^0-9a-z]|$)`),
	}
)

// claimFromName reads the name of an image profile, a volume or a file, or a
// line of text with such a name. One that is not understood claims nothing.
func claimFromName(source, name string) claim {
	for _, form := range nameForms {
		m := form.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		group := func(name string) string {
			if i := form.SubexpIndex(name); i >= 0 {
				return strings.ToLower(m[i])
			}
			return ""
		}
		c := release(group("major"), group("minor"), group("third"), group("fourth"), group("update"), group("letter"))
		_, rest, _ := strings.Cut(name, m[0])
		c.source, c.build = source, buildIn(rest)
		return c
	}
	return claim{source: source}
}

// release makes a claim of the numbers in a name.
func release(major, minor, third, fourth, update, letter string) claim {
	switch major {
	case "7", "8":
		// The update is the third number: 8.0U3 is 8.0.3, and so is what
		// Dell's file names call 8.0.0.update03.
		if update != "" {
			third = update
		}
		update = third
	case "6":
		// 6.5 and 6.7 keep a third number of 0 through all updates.
		if update != "" {
			third = "0"
		}
	default:
		// 9.x has four numbers and no updates.
		if third == "" {
			third = update
		}
		update, letter = "", ""
	}
	c := claim{version: major + "." + minor, update: letter}
	for _, number := range []string{third, fourth} {
		if number != "" {
			c.version += "." + number
		}
	}
	if update != "" && update != "0" {
		c.update = "U" + update + letter
	}
	return c
}

// buildIn returns the first build number in the rest of a name.
func buildIn(rest string) string {
	for _, number := range digits.FindAllString(rest, -1) {
		if buildText.MatchString(number) && !dateText.MatchString(number) {
			return number
		}
	}
	return ""
}

// claimFromBuild reads the value of boot.cfg's build key, which .DISCINFO has
// too: "8.0.3-0.35.24280767", "9.1.1.0-25714478". 6.5 leaves it empty.
func claimFromBuild(source, value string) claim {
	c := claim{source: source}
	if version, _, _ := strings.Cut(value, "-"); versionText.MatchString(version) {
		c.version = version
	}
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return r == '.' || r == '-' }) {
		if buildText.MatchString(word) {
			c.build = word
		}
	}
	return c
}

// resolve decides what the release is. Each fact is taken from the first claim,
// the most reliable one, that has it. A binding claim that contradicts what was
// taken is an error, any other a warning.
func resolve(claims []claim) (release claim, warnings []string, err error) {
	var version, build claim // where they were taken from
	for _, c := range claims {
		if version.version == "" && versionText.MatchString(c.version) {
			version = c
		}
		if build.build == "" {
			build = c
		}
	}
	switch {
	case version.version == "":
		return claim{}, nil, fmt.Errorf("nothing in it says its version")
	case build.build == "":
		return claim{}, nil, fmt.Errorf("nothing in it says its build number")
	}
	for _, c := range claims {
		if c.build != "" && c.build != build.build {
			text := fmt.Sprintf("%s says build %s, %s says %s", build.source, build.build, c.source, c.build)
			if c.binding {
				return claim{}, nil, fmt.Errorf("it contradicts itself: %s", text)
			}
			warnings = append(warnings, text)
		}
		if n := common(c.version, version.version); n < min(3, numbers(c.version)) {
			text := fmt.Sprintf("%s says version %s, %s says %s", version.source, version.version, c.source, c.version)
			if c.binding && n < 2 {
				return claim{}, nil, fmt.Errorf("it contradicts itself: %s", text)
			}
			warnings = append(warnings, text)
		}
	}
	release = claim{version: version.version, build: build.build}
	release.update = updateLevel(release.version, claims)
	return release, warnings, nil
}

// updateLevel returns the update level of a version. From 7.0 on its number is
// the version's third and only the letter comes from a name; before, all of it
// does. 9.x has none.
func updateLevel(version string, claims []claim) string {
	parts := strings.Split(version, ".")
	level := ""
	switch {
	case len(parts[0]) > 1 || parts[0] > "8":
		return ""
	case parts[0] >= "7" && parts[2] != "0":
		level = "U" + parts[2]
	}
	for _, c := range claims {
		if c.update != "" && common(c.version, version) == numbers(c.version) && strings.HasPrefix(c.update, level) {
			return c.update
		}
	}
	return level
}

// numbers counts the numbers of a version, common the leading ones that two
// versions share.
func numbers(version string) int {
	if version == "" {
		return 0
	}
	return strings.Count(version, ".") + 1
}

func common(a, b string) int {
	n := 0
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for n < min(len(as), len(bs)) && as[n] == bs[n] {
		n++
	}
	return n
}
