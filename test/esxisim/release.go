package esxisim

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Options choose the ESXi to imitate.
type Options struct {
	Version    string // "6.5", "6.7.0", "7.0.3", "7.0U3", "8.0U3e", "9.0", "9.1.0.0100"
	Build      string // default: a known build of the version
	OEM        string // "", "dell", "hpe", "lenovo" or "cisco"
	PayloadMiB int    // size of all modules together; default 64
}

// Release is one ESXi release as its ISO names itself.
type Release struct {
	Version    string // of UPGRADE/METADATA.XML: "6.7.0", "8.0.3", "9.0.0.0"
	Build      string // "24677879"
	Update     string // "", "U3", "U3e": known for 6.x from the build only
	OEM        string
	Profile    string // of UPGRADE/PROFILE.XML: "ESXi-8.0U3e-24677879-standard"
	PayloadMiB int

	number [4]int
}

// known are released builds with their update level. For 6.x the profile of an
// update is named by a date instead of the build.
var known = []struct{ version, build, update, date string }{
	{"6.5.0", "8294253", "U2", "20180502001"},
	{"6.7.0", "8169922", "", ""},
	{"6.7.0", "14320388", "U3", "20190802001"},
	{"7.0.0", "15843807", "", ""},
	{"7.0.1", "16850804", "U1", ""},
	{"7.0.2", "17867351", "U2a", ""},
	{"7.0.3", "20328353", "U3g", ""},
	{"7.0.3", "19193900", "U3c", ""},
	{"7.0.3", "19482537", "U3d", ""},
	{"7.0.3", "22348816", "U3o", ""},
	{"8.0.0", "20513097", "", ""},
	{"8.0.1", "21495797", "U1", ""},
	{"8.0.2", "22380479", "U2", ""},
	{"8.0.3", "24677879", "U3e", ""},
	{"8.0.3", "24022510", "U3", ""},
	{"8.0.3", "24280767", "U3b", ""},
	{"9.0.0.0", "24755229", "", ""},
	{"9.1.0.0100", "25433460", "", ""},
	{"9.1.1.0", "25714478", "", ""},
}

var (
	versionForm = regexp.MustCompile(`^(\d+)\.(\d+)(?:[uU](\d+)([a-z]?)|\.(\d+)(?:\.(\d+))?)?$`)
	buildForm   = regexp.MustCompile(`^\d{7,8}$`)
)

// NewRelease works out the names of a release.
func NewRelease(o Options) (Release, error) {
	m := versionForm.FindStringSubmatch(o.Version)
	if m == nil {
		return Release{}, fmt.Errorf("%q is no ESXi version; write it like 6.7, 7.0.3 or 8.0U3e", o.Version)
	}
	if o.OEM != "" && oemProfiles[o.OEM] == nil {
		return Release{}, fmt.Errorf("unknown OEM %q; known: cisco, dell, hpe, lenovo", o.OEM)
	}
	r := Release{Build: o.Build, OEM: o.OEM, PayloadMiB: cmp.Or(o.PayloadMiB, 64)}
	for i, digits := range []string{m[1], m[2], cmp.Or(m[3], m[5]), m[6]} {
		r.number[i], _ = strconv.Atoi(digits) // "" is 0; the form allows digits only
	}
	r.Version = strings.Join([]string{m[1], m[2], cmp.Or(m[3], m[5], "0")}, ".")
	if r.AtLeast(9) {
		r.Version += "." + cmp.Or(m[6], "0")
	}
	var date string
	for _, k := range known {
		if k.version == r.Version && (r.Build == "" || r.Build == k.build) && (m[4] == "" || strings.HasSuffix(k.update, m[4])) {
			r.Build, r.Update, date = k.build, k.update, k.date
			break
		}
	}
	if r.Update == "" && r.number[2] > 0 && !r.AtLeast(9) {
		r.Update = "U" + strconv.Itoa(r.number[2]) + m[4]
	}
	if !buildForm.MatchString(r.Build) {
		return Release{}, fmt.Errorf("%q is no build number of ESXi %s; it has 7 or 8 digits", r.Build, r.Version)
	}
	limit := 300 // of what a boot bank of 250 MiB can take, the rest goes elsewhere
	if r.AtLeast(7) {
		limit = 3000
	}
	if r.PayloadMiB < 1 || r.PayloadMiB > limit {
		return Release{}, fmt.Errorf("a payload of %d MiB does not fit into the boot banks of ESXi %s: at most %d", r.PayloadMiB, r.Version, limit)
	}
	r.Profile = r.profile(date)
	return r, nil
}

// AtLeast reports whether the release is not older than the version with the
// given leading numbers.
func (r Release) AtLeast(number ...int) bool {
	return slices.Compare(r.number[:len(number)], number) >= 0
}

// Short is the marketing form: "6.7.0", "8.0U3e", "9.0.0.0".
func (r Release) Short() string {
	if r.AtLeast(9) || !r.AtLeast(7) || r.Update == "" {
		return r.Version
	}
	return fmt.Sprintf("%d.%d%s", r.number[0], r.number[1], r.Update)
}

// VolumeID is the profile's name in upper case, as far as it fits.
func (r Release) VolumeID() string {
	id := strings.ToUpper(r.Profile)
	return id[:min(len(id), 32)]
}

// KernelOptions are those of the ISO's boot.cfg. OEM images have them in
// another order.
func (r Release) KernelOptions() string {
	switch {
	case r.OEM != "":
		return "cdromBoot runweasel"
	case r.AtLeast(7):
		return "runweasel cdromBoot"
	}
	return "runweasel"
}

// BootBuild is the build= of boot.cfg, which 6.5 left empty.
func (r Release) BootBuild() string {
	switch {
	case r.AtLeast(9):
		return r.Version + "-" + r.Build
	case r.AtLeast(8):
		return r.Version + "-0.35." + r.Build
	case r.AtLeast(7, 0, 2):
		return r.Version + "-0.20." + r.Build
	case r.AtLeast(7):
		return r.Version + "-1.0." + r.Build
	case r.AtLeast(6, 7):
		return r.Version + "-0.0." + r.Build
	}
	return ""
}

// product is the name in the titles of boot.cfg.
func (r Release) product() string {
	if r.AtLeast(9) {
		return "ESX"
	}
	return "ESXi"
}

func (r Release) profile(date string) string {
	switch {
	case r.OEM != "":
		return oemProfiles[r.OEM](r)
	case !r.AtLeast(7):
		return fmt.Sprintf("ESXi-%s-%s-standard", r.Version, cmp.Or(date, r.Build))
	}
	return fmt.Sprintf("ESXi-%s-%s-standard", r.Short(), r.Build)
}

// oemProfiles name a vendor's image in the vendor's style.
var oemProfiles = map[string]func(Release) string{
	"dell": func(r Release) string {
		return fmt.Sprintf("DEL-ESXi_%d%d%d.%s-A02", r.number[0], r.number[1], r.number[2], r.Build)
	},
	"hpe": func(r Release) string {
		return fmt.Sprintf("HPE-ESXi-%s-%s-%d%d%d.0.0.11.5.0.6", r.Short(), r.Build, r.number[0], r.number[1], r.number[2])
	},
	"lenovo": func(r Release) string {
		return fmt.Sprintf("LNV-ESXi-%s-%s-20250917", r.Version, r.Build)
	},
	"cisco": func(r Release) string {
		update := ""
		if r.number[2] > 0 {
			update = "U" + strconv.Itoa(r.number[2])
		}
		return fmt.Sprintf("Cisco-UCS-Custom-ESXi-%d%d%s-%s_4.3.2-b", r.number[0], r.number[1], update, r.Build)
	},
}
