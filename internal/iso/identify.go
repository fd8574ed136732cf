package iso

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

// Info is what an installer ISO is.
type Info struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`      // bytes
	SHA256   string `json:"sha256"`    // hexadecimal; Identify leaves it empty
	VolumeID string `json:"volume_id"` // "ESXI-8.0U3E-24677879-STANDARD"
	Product  string `json:"product"`   // "VMware ESXi", or "VMware ESX" as 9.x calls itself
	Version  string `json:"version"`   // "6.7.0", "8.0.3", "9.0.0.0"
	Update   string `json:"update"`    // "U3e", "U1", "b" (of 7.0b), or ""; always "" for 9.x
	Build    string `json:"build"`     // "24677879"
	Profile  string `json:"profile"`   // the image profile: "ESXi-8.0U3e-24677879-standard"
	Vendor   string `json:"vendor"`    // "" for VMware's own; "dell", "hpe", "lenovo", "cisco", "fujitsu", "custom"
	Custom   bool   `json:"custom"`    // not one of VMware's own profiles
}

// Identify tells which release an ISO holds, from the image's own metadata, and
// checks that it is a whole and consistent ESXi installer. The warnings name
// what looks odd but does not decide anything. An image that is refused gives
// an error of class fault.Input with the reason.
//
// What is supported is not decided here: a 5.5 ISO is identified as that.
func Identify(ctx context.Context, img *Image) (Info, []string, error) {
	in := inspection{img: img, info: Info{Path: img.path, Size: img.size, VolumeID: img.volumeID}}
	// The first three steps, and the order in names, are the order of
	// reliability of what they claim.
	for _, step := range []func() error{
		in.installer, in.metadata, in.profile, in.bootConfigs, in.names, in.release, in.files, in.bootImages,
	} {
		if err := ctx.Err(); err != nil {
			return Info{}, nil, err
		}
		if err := step(); err != nil {
			return Info{}, nil, err
		}
	}
	return in.info, in.warnings, nil
}

// inspection is an identification in progress.
type inspection struct {
	img      *Image
	info     Info
	claims   []claim
	problems []string // files of the boot configuration that are missing or empty
	warnings []string
}

const (
	metadataXML = "UPGRADE/METADATA.XML"
	profileXML  = "UPGRADE/PROFILE.XML"
	licenceText = "VMWARE-ESX-BASE-OSL.TXT"
)

// refuse returns the error for an image that cannot be used.
func (in *inspection) refuse(format string, args ...any) error {
	return fault.New(fault.Input, "cannot use %s: "+format, append([]any{in.img.path}, args...)...)
}

// installer tells an ESXi installer from other ISOs.
func (in *inspection) installer() error {
	if in.img.has(biosBootConfig) || in.img.has(metadataXML) {
		return nil
	}
	what := "its volume"
	if in.img.udf {
		what = "its volume, a UDF disc as Windows has them,"
	}
	return in.refuse("it is not an ESXi installer: %s %q has neither /BOOT.CFG nor /%s", what, in.img.volumeID, metadataXML)
}

// metadata reads version and build from UPGRADE/METADATA.XML.
func (in *inspection) metadata() error {
	texts, err := in.xml(metadataXML, element{name: "esxVersion"}, element{name: "build"})
	if err != nil {
		return err
	}
	version, build := texts[0], texts[1]
	switch {
	case version != "" && !versionText.MatchString(version):
		return in.refuse("/%s has no valid version: %q", metadataXML, printable(version))
	case build != "" && !buildText.MatchString(build):
		return in.refuse("/%s has no valid build number: %q", metadataXML, printable(build))
	case version == "" || build == "":
		in.warn("/" + metadataXML + " does not say both version and build")
	}
	in.claims = append(in.claims, claim{source: "/" + metadataXML, version: version, build: build, binding: true})
	return nil
}

// profile reads the name of the image profile from UPGRADE/PROFILE.XML.
func (in *inspection) profile() error {
	texts, err := in.xml(profileXML, element{"imageprofile", "name"})
	if err != nil {
		return err
	}
	name := texts[0]
	if name == "" || name != printable(name) {
		return in.refuse("/%s has no valid name of an image profile: %q", profileXML, printable(name))
	}
	in.info.Profile = name
	lower := strings.ToLower(name)
	in.info.Custom = !strings.HasSuffix(lower, "-standard") && !strings.HasSuffix(lower, "-no-tools")
	if in.info.Custom {
		in.info.Vendor = vendor(lower)
	}
	in.claims = append(in.claims, claimFromName("image profile "+name, name))
	return nil
}

// xml reads texts from an XML file of the image.
func (in *inspection) xml(file string, wanted ...element) ([]string, error) {
	data, err := in.img.ReadFile(file, maxMetadata)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, in.refuse("/%s is empty: download it again", file)
	}
	texts, err := xmlTexts(data, wanted...)
	if err != nil {
		return nil, in.refuse("/%s is damaged: %s", file, printable(err.Error()))
	}
	return texts, nil
}

// vendorWords are the words that vendors put into the names of their profiles:
// "DEL-ESXi_803.24280767-A02", "HPE-ESXi-7.0-...", "Cisco-UCS-Custom-ESXi-70U1-...".
var vendorWords = []struct{ word, vendor string }{
	{"del", "dell"}, {"dell", "dell"}, {"dellemc", "dell"},
	{"hp", "hpe"}, {"hpe", "hpe"},
	{"lenovo", "lenovo"}, {"lnv", "lenovo"}, {"lvo", "lenovo"},
	{"cisco", "cisco"},
	{"fujitsu", "fujitsu"}, {"fjt", "fujitsu"},
}

// vendor returns whose custom profile it is, from its name in lower case.
func vendor(profile string) string {
	words := strings.FieldsFunc(profile, func(r rune) bool { return r < 'a' || r > 'z' })
	for _, v := range vendorWords {
		if slices.Contains(words, v.word) {
			return v.vendor
		}
	}
	return "custom"
}

// bootConfigs reads the loader's two configuration files, which must start the
// installer and nothing else.
func (in *inspection) bootConfigs() error {
	for _, file := range []string{biosBootConfig, uefiBootConfig} {
		config, err := in.img.bootConfig(file)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(config.kernelOptions(), sameOption("runweasel")) {
			return in.refuse("/%s does not start the installer: its kernelopt has no runweasel", file)
		}
		if config.get("kernel") == "" {
			return in.refuse("/%s names no kernel", file)
		}
		for _, name := range config.files() {
			if problem := in.img.bootFile(config.get("prefix"), path.Dir(file), name); problem != "" {
				in.problems = append(in.problems, problem)
			}
		}
		c := claimFromBuild("/"+file, config.get("build"))
		c.binding = true
		in.claims = append(in.claims, c)
		if file == biosBootConfig {
			in.info.Product = product(config.get("title"))
		}
	}
	return nil
}

// product reads the product's name from boot.cfg's title, "Loading ESXi
// installer"; some 9.x ISOs say ESX there.
func product(title string) string {
	if slices.Contains(blanks(title), "ESX") {
		return "VMware ESX"
	}
	return "VMware ESXi"
}

// names reads the sources that only confirm what is known or fill gaps.
func (in *inspection) names() error {
	volume := in.img.volumeID
	if len(volume) == 32 {
		// Cut at 32 characters, perhaps within the build number.
		volume = strings.TrimRight(volume, "0123456789")
	}
	in.claims = append(in.claims,
		claimFromBuild("/.DISCINFO", in.img.firstLine(".DISCINFO", "Version:")),
		claimFromName("volume id", volume),
		claimFromName("/"+licenceText, in.img.firstLine(licenceText, "")),
		claimFromName("file name", printable(filepath.Base(in.img.path))))
	return nil
}

// firstLine returns the first line of a file that has prefix and is not blank,
// without the prefix, if it is within the first sector. The file is no source
// to rely on: if it cannot be read, it has no such line.
func (img *Image) firstLine(file, prefix string) string {
	n, err := img.lookup(file)
	if err != nil || n.dir {
		return ""
	}
	head, err := img.read(n.offset(), min(n.size, sectorSize))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(head)) {
		if text, found := strings.CutPrefix(line, prefix); found && strings.TrimSpace(text) != "" {
			return printable(strings.TrimSpace(text))
		}
	}
	return ""
}

// release decides what the release is.
func (in *inspection) release() error {
	release, warnings, err := resolve(in.claims)
	if err != nil {
		return in.refuse("%w", err)
	}
	in.info.Version, in.info.Update, in.info.Build = release.version, release.update, release.build
	for _, w := range warnings {
		in.warn(w)
	}
	return nil
}

func (in *inspection) warn(text string) { in.warnings = append(in.warnings, text) }
