package config

import (
	"fmt"
	"regexp"
	"strings"
	"text/template"
)

// Naming holds the templates (text/template) for what an image is called in
// MAAS.
type Naming struct {
	Name  string `toml:"name"`  // os/release, e.g. esxi/8.0
	Title string `toml:"title"` // what MAAS's pages show
}

// An OEM image must not replace the stock image of the same version, so the
// vendor is part of its name.
const (
	defaultName  = `esxi/{{.Major}}.{{.Minor}}{{if .Custom}}-{{.Vendor}}{{end}}`
	defaultTitle = `{{.Product}} {{.Major}}.{{.Minor}}{{with .Update}} {{.}}{{end}}{{if .Custom}} ({{.VendorTitle}}){{end}}`
)

// NameFields is what the naming templates may use.
type NameFields struct {
	Product             string // VMware ESXi
	Version             string // 8.0.3
	Major, Minor, Patch string // 8, 0, 3
	Update              string // U3e, or empty
	Build               string // 24677879
	Profile             string // ESXi-8.0U3e-24677879-standard
	Vendor              string // dell, hpe, lenovo, cisco, fujitsu, custom, or empty
	VendorTitle         string // Dell, HPE, …
	Custom              bool   // an OEM or otherwise customized ISO
}

// Limits of a rendered name and title: MAAS stores 255 characters of a name.
const (
	maxName  = 200
	maxTitle = 200
)

// MAAS puts the release into URLs and file names without escaping it, and
// splits the name at its only slash.
var nameForm = regexp.MustCompile(`^esxi/[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Render returns the boot resource name and the title of an image.
func (n Naming) Render(f NameFields) (name, title string, err error) {
	if name, err = render("name", n.Name, f); err != nil {
		return "", "", err
	}
	if !nameForm.MatchString(name) || len(name) > maxName {
		return "", "", fmt.Errorf("naming.name gives %.220q: want esxi/ and a release of at most %d of the characters A-Z a-z 0-9 . _ -, beginning with a letter or digit",
			name, maxName-len("esxi/"))
	}
	if title, err = render("title", n.Title, f); err != nil {
		return "", "", err
	}
	title = strings.Join(strings.Fields(title), " ")
	if title == "" || len(title) > maxTitle || strings.ContainsFunc(title, notPrintable) {
		return "", "", fmt.Errorf("naming.title gives %.220q: want 1 to %d printable characters", title, maxTitle)
	}
	return name, title, nil
}

func notPrintable(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }

func render(key, text string, f NameFields) (string, error) {
	t, err := template.New("naming." + key).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("cannot parse naming.%s: %w", key, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, f); err != nil {
		return "", fmt.Errorf("cannot use naming.%s: %w", key, err)
	}
	return b.String(), nil
}

// sampleFields are what the templates are tried with when the configuration is
// read, so that a wrong one is found then and not after a build.
var sampleFields = []NameFields{
	{Product: "VMware ESXi", Version: "6.7.0", Major: "6", Minor: "7", Patch: "0", Build: "8169922", Profile: "ESXi-6.7.0-8169922-standard"},
	{Product: "VMware ESXi", Version: "8.0.3", Major: "8", Minor: "0", Patch: "3", Update: "U3b", Build: "24280767", Profile: "DEL-ESXi_803.24280767-A02",
		Vendor: "dell", VendorTitle: "Dell", Custom: true},
}
