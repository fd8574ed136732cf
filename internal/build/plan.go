package build

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/kickstart"
)

// Plan says everything about a build before it starts. It is a pure function
// of the ISO, the kickstart layers and the configuration, and holds no secret.
type Plan struct {
	ID    string `json:"id"`
	Name  string `json:"name"`  // boot resource
	Title string `json:"title"` // of the boot resource

	ISO          iso.Info `json:"iso"`
	Kickstart    []string `json:"kickstart"`     // the layers' files, in order
	RootPassword string   `json:"root_password"` // where it comes from: configuration, file or random
	Profile      Profile  `json:"profile"`
	Access       string   `json:"access"`
	Unsupported  string   `json:"unsupported"`
	VCenterCA    string   `json:"vcenter_ca,omitempty"` // PEM
	Notes        []string `json:"notes,omitempty"`

	// InstallKey covers what the installed disk depends on, ImageKey also what
	// is done to it afterwards. A changed ImageKey needs no new installation.
	InstallKey string `json:"install_key"`
	ImageKey   string `json:"image_key"`
}

// Root password sources.
const (
	passwordConfigured = "configuration"
	passwordFile       = "file"
	passwordRandom     = "random"
)

// renderVersion is raised when kickstart rendering or the way the installer is
// started changes in a way that makes another disk.
const renderVersion = 1

// packVersion is raised when packing changes in a way that makes another image
// of the same disk.
const packVersion = 2

// NewPlan plans the build of an ISO whose Info has its SHA256. secret keys the
// fingerprint of a configured password, because the keys of a plan are no
// secret and must not help anyone to guess it.
func NewPlan(cfg *config.Config, info iso.Info, src kickstart.Source, secret []byte) (Plan, error) {
	name, title, err := cfg.Naming.Render(nameFields(info))
	if err != nil {
		return Plan{}, fault.As(fault.Config, err)
	}
	profile, note, err := ProfileFor(info.Version, cfg.VM.Profile)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{
		Name: name, Title: title, ISO: info, Profile: profile,
		Access: cfg.Image.Access, Unsupported: cfg.Deploy.Unsupported,
		RootPassword: passwordRandom,
	}
	p.ISO.Path = "" // the same ISO under another name is the same build
	if note != "" {
		p.Notes = append(p.Notes, note)
	}
	for _, layer := range src.Layers {
		p.Kickstart = append(p.Kickstart, layer.Path)
	}
	password, source, err := configuredPassword(cfg)
	if err != nil {
		return Plan{}, err
	}
	p.RootPassword = source
	if p.VCenterCA, err = readAuthorities(cfg); err != nil {
		return Plan{}, err
	}

	install := newKey("install", renderVersion, info.SHA256, profile, source, fingerprint(secret, password), guest.FirstBoot())
	for _, layer := range src.Layers {
		install.add(layer.Text)
	}
	p.InstallKey = install.sum()
	p.ImageKey = newKey("image", packVersion, p.InstallKey, guestSettings(p.Unsupported, p.VCenterCA).Version()).sum()
	p.ID = fmt.Sprintf("%s-%s-%s", info.Version, info.Build, p.InstallKey[:8])
	return p, nil
}

// fingerprint tells configured passwords apart. Without one there is nothing to
// protect, and the plan of a build is the same on every host.
func fingerprint(secret []byte, password string) []byte {
	if password == "" {
		return nil
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(password))
	return mac.Sum(nil)
}

// key hashes values; each is marshalled and length-prefixed, so that no two
// lists of values give the same input.
type key struct{ b strings.Builder }

func newKey(values ...any) *key {
	k := &key{}
	for _, v := range values {
		k.add(v)
	}
	return k
}

func (k *key) add(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("build: %T cannot be part of a key: %v", v, err))
	}
	fmt.Fprintf(&k.b, "%d:%s", len(text), text)
}

func (k *key) sum() string {
	sum := sha256.Sum256([]byte(k.b.String()))
	return hex.EncodeToString(sum[:])
}

var vendorTitles = map[string]string{
	"cisco": "Cisco", "custom": "custom", "dell": "Dell", "fujitsu": "Fujitsu", "hpe": "HPE", "lenovo": "Lenovo",
}

func nameFields(i iso.Info) config.NameFields {
	parts := append(strings.Split(i.Version, "."), "0", "0", "0")
	return config.NameFields{
		Product: i.Product, Version: i.Version, Major: parts[0], Minor: parts[1], Patch: parts[2],
		Update: i.Update, Build: i.Build, Profile: i.Profile,
		Vendor: i.Vendor, VendorTitle: vendorTitles[i.Vendor], Custom: i.Custom,
	}
}

// Name returns the boot resource name and title an ISO gets.
func Name(cfg *config.Config, i iso.Info) (name, title string, err error) {
	name, title, err = cfg.Naming.Render(nameFields(i))
	return name, title, fault.As(fault.Config, err)
}
