// Package guest holds what goes into an image to configure the host deployed
// from it: the hook that curtin runs on Linux right after it wrote the image,
// and the agent that runs on ESXi at the first boot. Both are Python programs,
// kept below payload/ and embedded here; this package is only their container.
//
// The way of the files: esxid writes Files into the image's EFI system
// partition, where curtin finds /curtin/curtin-hooks and runs it. The hook
// copies curtin/firstboot/ and MAAS's configuration to the second boot bank.
// The kickstart's %firstboot, with FirstBoot as its body, starts the agent
// from there.
package guest

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed payload
var payload embed.FS

//go:embed firstboot.sh
var firstBoot []byte

// File is one file of the payload.
type File struct {
	Path string // below the root of the EFI system partition: "curtin/curtin-hooks"
	Data []byte
}

// Settings are the operator's choices for the hook. The zero value is the
// default.
type Settings struct {
	// WarnUnsupported lets a deployment go on, with a warning, when MAAS asks
	// for something ESXi cannot do (a bridge, a bond mode, another boot disk
	// than curtin wrote to). By default that fails the deployment before
	// anything but the image itself is written.
	WarnUnsupported bool
	// VCenterCA are the certificates, in PEM, by which a host trusts the vCenter
	// it is to join, beside those ESXi has. "" for none.
	VCenterCA string
}

// Files returns the payload with the default settings.
func Files() []File { return Settings{}.Files() }

// Version returns the version of the payload with the default settings.
func Version() string { return Settings{}.Version() }

// FirstBoot returns the body of a %firstboot section for busybox's sh, which
// starts the agent. It fails, and says so on the console, where there is none.
func FirstBoot() []byte { return append([]byte(nil), firstBoot...) }

// Files returns the payload, sorted by path.
func (s Settings) Files() []File {
	files := []File{{Path: "curtin/esxid.json", Data: s.json()}}
	err := fs.WalkDir(payload, "payload", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := payload.ReadFile(path)
		files = append(files, File{Path: strings.TrimPrefix(path, "payload/"), Data: data})
		return err
	})
	if err != nil { // an embedded file system has no errors of its own
		panic(err)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// Version returns a short name for the content of Files and FirstBoot: images
// with the same version configure hosts in the same way.
func (s Settings) Version() string {
	h := sha256.New()
	for _, f := range append(s.Files(), File{Path: "%firstboot", Data: firstBoot}) {
		fmt.Fprintf(h, "%q %d\n", f.Path, len(f.Data))
		h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// json is the settings file that the hook reads beside itself.
func (s Settings) json() []byte {
	unsupported := "error"
	if s.WarnUnsupported {
		unsupported = "warn"
	}
	text, err := json.Marshal(struct {
		Unsupported string `json:"unsupported"`
		VCenterCA   string `json:"vcenter_ca,omitempty"`
	}{unsupported, s.VCenterCA})
	if err != nil { // two strings can be written
		panic(err)
	}
	return append(text, '\n')
}
