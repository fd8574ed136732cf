package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// problem is the first thing wrong with a configuration.
type problem struct {
	key     toml.Key
	index   int // which [[target]]
	message string
}

func bad(message string, key ...string) *problem {
	return &problem{key: key, message: message}
}

// CryptSHA512 is the form of a password hash every supported ESXi accepts:
// crypt(5) SHA-512 without the rounds parameter.
var CryptSHA512 = regexp.MustCompile(`^\$6\$[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}$`)

func (c *Config) validate() *problem {
	for _, check := range []func() *problem{c.checkPaths, c.checkNaming, c.checkPassword, c.checkVM, c.checkRest} {
		if p := check(); p != nil {
			return p
		}
	}
	names := map[string]bool{}
	for i, t := range c.Targets {
		p := t.check()
		if p == nil && names[t.Name] {
			p = bad(fmt.Sprintf("%q is the name of another target too", t.Name), "target", "name")
		}
		if p != nil {
			p.index = i
			return p
		}
		names[t.Name] = true
	}
	return nil
}

func (c *Config) checkPaths() *problem {
	for _, p := range []struct{ key, path string }{
		{"state_dir", c.StateDir}, {"runtime_dir", c.RuntimeDir}, {"kickstart_dir", c.KickstartDir},
	} {
		if !filepath.IsAbs(p.path) {
			return bad(fmt.Sprintf("want an absolute path, not %q", p.path), p.key)
		}
	}
	return nil
}

func (c *Config) checkNaming() *problem {
	for _, f := range sampleFields {
		if _, _, err := c.Naming.Render(f); err != nil {
			key := "name"
			if strings.Contains(err.Error(), "naming.title") {
				key = "title"
			}
			return bad(err.Error(), "naming", key)
		}
	}
	return nil
}

func (c *Config) checkPassword() *problem {
	r := c.RootPassword
	switch {
	case r.Hash != "" && r.File != "":
		return bad("set either hash or file, not both", "root_password", "file")
	case r.Hash != "" && !CryptSHA512.MatchString(r.Hash):
		return bad("want a SHA-512 crypt hash ($6$salt$hash, no rounds=), as printed by: openssl passwd -6", "root_password", "hash")
	case r.File != "" && !filepath.IsAbs(r.File):
		return bad(fmt.Sprintf("want an absolute path, not %q", r.File), "root_password", "file")
	}
	return nil
}

var profileVersion = regexp.MustCompile(`^[0-9]{1,2}(\.[0-9]{1,2}){0,2}$`)

func (c *Config) checkVM() *problem {
	if p := oneOf(c.VM.Accel, []string{"kvm", "tcg", "auto"}, "vm", "accel"); p != nil {
		return p
	}
	if c.VM.QEMU == "" {
		return bad("want the name or path of a program", "vm", "qemu")
	}
	if p := between(c.VM.IdleTimeout, time.Minute, 24*time.Hour, "vm", "idle_timeout"); p != nil {
		return p
	}
	if p := between(c.VM.OverallTimeout, c.VM.IdleTimeout, 7*24*time.Hour, "vm", "overall_timeout"); p != nil {
		return p
	}
	for version, profile := range c.VM.Profile {
		if !profileVersion.MatchString(version) {
			return bad("want a version such as \"8\", \"8.0\" or \"8.0.3\"", "vm", "profile", version)
		}
		if p := profile.check(version); p != nil {
			return p
		}
	}
	return nil
}

var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

func (p Profile) check(version string) *problem {
	key := func(k string) []string { return []string{"vm", "profile", version, k} }
	for _, e := range []struct {
		key, value string
		allowed    []string
	}{
		{"machine", p.Machine, []string{"pc", "q35"}},
		{"disk_bus", p.DiskBus, []string{"ahci", "ide"}},
		{"kickstart_medium", p.KickstartMedium, []string{"cdrom", "usb"}},
	} {
		if e.value != "" && !slices.Contains(e.allowed, e.value) {
			return oneOf(e.value, e.allowed, key(e.key)...)
		}
	}
	if p.NIC != "" && !deviceName.MatchString(p.NIC) {
		return bad("want the name of a QEMU network device", key("nic")...)
	}
	// QEMU takes features after commas; a comma cannot start another option here.
	if p.CPUModel != "" && !deviceName.MatchString(strings.NewReplacer(",", "-", "=", "-").Replace(p.CPUModel)) {
		return bad("want a QEMU CPU model", key("cpu_model")...)
	}
	if hw, err := net.ParseMAC(p.MAC); p.MAC != "" && (err != nil || len(hw) != 6 || hw[0]&1 != 0) {
		return bad("want a unicast MAC address such as 00:50:56:00:00:01", key("mac")...)
	}
	if p.MemoryMiB != 0 && (p.MemoryMiB < 4096 || p.MemoryMiB > 1<<20) {
		return bad("want 4096 or more: no supported ESXi installs with less", key("memory_mib")...)
	}
	if p.CPUs != 0 && (p.CPUs < 2 || p.CPUs > 64) {
		return bad("want 2 to 64: ESXi needs two", key("cpus")...)
	}
	for _, o := range p.KernelOptions {
		if o == "" || len(o) > 200 || strings.ContainsFunc(o, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return bad(fmt.Sprintf("%.220q is not a kernel option: want printable ASCII without blanks", o), key("kernel_options")...)
		}
	}
	return nil
}

func (c *Config) checkRest() *problem {
	if p := oneOf(c.Image.Access, []string{"auto", "nbd", "direct"}, "image", "access"); p != nil {
		return p
	}
	if p := oneOf(c.Deploy.Unsupported, []string{"error", "warn"}, "deploy", "unsupported"); p != nil {
		return p
	}
	if p := oneOf(c.Service.Steps, []string{"auto", "units", "process"}, "service", "steps"); p != nil {
		return p
	}
	if file := c.Deploy.VCenterCAFile; file != "" && !filepath.IsAbs(file) {
		return bad(fmt.Sprintf("want an absolute path, not %q", file), "deploy", "vcenter_ca_file")
	}
	if p := between(c.Watch.Settle, 10*time.Millisecond, time.Hour, "watch", "settle"); p != nil {
		return p
	}
	if p := between(c.Watch.Rescan, time.Second, 24*time.Hour, "watch", "rescan"); p != nil {
		return p
	}
	switch r := c.Retention; {
	case r.ImagesPerName < 1:
		return bad("want 1 or more", "retention", "images_per_name")
	case r.FailedBuilds < 0:
		return bad("want 0 or more", "retention", "failed_builds")
	case r.Rejected < 0:
		return bad("want 0 or more", "retention", "rejected")
	case r.MaxGiB < 0:
		return bad("want 0 (no limit) or more", "retention", "max_gib")
	}
	return nil
}

var targetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (t Target) check() *problem {
	key := func(k string) []string { return []string{"target", k} }
	if p := oneOf(t.Type, []string{TargetMAAS, TargetDirectory}, key("type")...); p != nil {
		return p
	}
	if !targetName.MatchString(t.Name) {
		return bad("want a name of letters, digits, dots, dashes and underscores", key("name")...)
	}
	if t.Type == TargetDirectory {
		if !filepath.IsAbs(t.Path) {
			return bad("want the absolute path of an existing directory", key("path")...)
		}
		if t.URL != "" || t.APIKeyFile != "" || t.CAFile != "" || t.ServerName != "" || t.Insecure || t.KeepOld || t.ChunkSize != 0 {
			return bad(`a target of type "directory" has only the keys name and path`, key("type")...)
		}
		return nil
	}
	u, err := url.Parse(t.URL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return bad("want an address such as https://maas.example.com:5443/MAAS", key("url")...)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return bad("want an address without user, query or fragment; the key belongs in api_key_file", key("url")...)
	case t.Path != "":
		return bad(`a target of type "maas" has no path`, key("path")...)
	case t.ChunkSize < MinChunkSize || t.ChunkSize > MaxChunkSize:
		return bad(fmt.Sprintf("want %d to %d bytes", MinChunkSize, MaxChunkSize), key("chunk_size")...)
	}
	for _, p := range []struct{ key, path string }{{"api_key_file", t.APIKeyFile}, {"ca_file", t.CAFile}} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			return bad(fmt.Sprintf("want an absolute path, not %q", p.path), key(p.key)...)
		}
	}
	return nil
}

func oneOf(value string, allowed []string, key ...string) *problem {
	if slices.Contains(allowed, value) {
		return nil
	}
	return bad(fmt.Sprintf("want one of %s, not %.80q", strings.Join(allowed, ", "), value), key...)
}

func between(d, low, high time.Duration, key ...string) *problem {
	if d >= low && d <= high {
		return nil
	}
	return bad(fmt.Sprintf("want %v to %v, not %v", low, high, d), key...)
}
