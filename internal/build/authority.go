package build

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

// maxAuthorities bounds deploy.vcenter_ca_file, in bytes: it becomes part of
// the payload, for which ESXi 6.x has an EFI system partition of 4 MiB.
const maxAuthorities = 32 << 10

// readAuthorities returns the certificates in the PEM file deploy.vcenter_ca_file,
// without what else is in it; "" if there is no file.
func readAuthorities(cfg *config.Config) (string, error) {
	path := cfg.Deploy.VCenterCAFile
	if path == "" {
		return "", nil
	}
	bad := func(format string, args ...any) error {
		return fault.New(fault.Config, "%s: %w", cfg.Place("deploy", "vcenter_ca_file"), fmt.Errorf(format, args...))
	}
	text, _, err := config.ReadFile(path, maxAuthorities)
	if err != nil {
		return "", bad("%w", err)
	}
	var b strings.Builder
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" { // a key must not get into an image
			return "", bad("%s holds a %s: want nothing but certificates", path, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", bad("cannot use %s: %w", path, err)
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	if b.Len() == 0 {
		return "", bad("%s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", path)
	}
	return b.String(), nil
}
