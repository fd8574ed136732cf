package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

func TestReadAuthorities(t *testing.T) {
	good, err := os.ReadFile("testdata/authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) (string, error) {
		cfg := config.Default()
		cfg.Deploy.VCenterCAFile = path
		return readAuthorities(cfg)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	for _, tt := range []struct{ text, want, reason string }{
		{text: string(good), want: string(good)},
		{text: "subject: CN=CA\n" + string(good) + "\n" + string(good), want: string(good) + string(good)},
		{text: "", reason: "holds no certificate"},
		{text: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", reason: "x509"},
		{text: string(good) + "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", reason: "holds a EC PRIVATE KEY"},
		{text: strings.Repeat(string(good), 100), reason: "has more than 32768 bytes"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := read(path)
		if tt.reason == "" {
			if got != tt.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		} else if err == nil || !strings.Contains(err.Error(), tt.reason) || fault.ClassOf(err) != fault.Config {
			t.Errorf("%.40q: %v, want %q", tt.text, err, tt.reason)
		}
	}
	if got, err := read(""); got != "" || err != nil {
		t.Errorf("without a file: %q, %v", got, err)
	}
	if _, err := read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "vcenter_ca_file: ") || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := read("/nowhere.pem"); err == nil || err.Error() != "deploy.vcenter_ca_file: cannot open /nowhere.pem: no such file or directory" {
		t.Errorf("a file that is not there: %v", err)
	}
}
