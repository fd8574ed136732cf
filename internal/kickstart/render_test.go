package kickstart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/fault"
)

var (
	testHash   = "$6$abcdefgh12345678$" + strings.Repeat("x", 86)
	testMarker = "esxid-0123456789abcdef-done"
)

func options(version string) Options {
	return Options{PasswordHash: testHash, Marker: testMarker, FirstBoot: []byte("echo 'first boot'\nsh /bootbank/agent.sh"), Version: Version{Number: version}}
}

// The operator's text for each version's golden file.
func renderSources(t *testing.T) map[string]Source {
	t.Helper()
	builtIn, err := selectFrom("", missing, Version{})
	if err != nil {
		t.Fatal(err)
	}
	const replaced = "# 8.0, with a password of its own\nvmaccepteula\nrootpw kQ3.vMware-x # clear\n" +
		"install --firstdisk=local --overwritevmfs --novmfsondisk\nnetwork --bootproto=dhcp --device=vmnic0\n\n" +
		"%post --interpreter=busybox\necho post > /tmp/post\n\n%firstboot --interpreter=python\nprint('first')"
	layered := source(valid+"reboot\n", "rootpw --iscrypted $1$abcdefgh$"+strings.Repeat("y", 22)+"\n", "# keep\n%firstboot --interpreter=busybox\nesxcli system version get\n")
	layered.Layers[1].Path = "/etc/esxid/kickstart.d/9.d/10-root.cfg"
	layered.Layers[2].Path = "/etc/esxid/kickstart.d/9.d/20-\n%post.cfg"
	return map[string]Source{"6.7.0": builtIn, "8.0.3": source(replaced), "9.0.0.0": layered}
}

func TestRender(t *testing.T) {
	for version, src := range renderSources(t) {
		t.Run(version, func(t *testing.T) {
			text, err := Render(src, options(version))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/render/"+version+".golden", string(text))
			if bytes.Contains(text, []byte(testMarker)) {
				t.Error("the marker itself stands in the file")
			}
			if bytes.Contains(text, []byte("%end")) || bytes.Contains(text, []byte("kQ3")) || bytes.Contains(text, []byte("yyyy")) {
				t.Error("contains what it must not")
			}
			rendered := source(string(text))
			for _, f := range lint(rendered, Version{Number: version}, true) {
				if f.Level == Error {
					t.Error(f)
				}
			}
			parsed := parse(rendered)
			last := parsed.sections[len(parsed.sections)-1]
			if last.name != "%post" || !last.own {
				t.Errorf("the last section is %s", last.name)
			}
			for i, s := range parsed.sections {
				if s.own != (i >= len(parsed.sections)-2) {
					t.Errorf("section %d: own = %v", i, s.own)
				}
			}
		})
	}
}

// Apart from rootpw lines the operator's text is there unchanged.
func TestRenderKeepsText(t *testing.T) {
	const text = "  vmaccepteula # yes\t \n\n\n" + "install  --firstdisk=local --overwritevmfs\t--novmfsondisk\nnetwork --bootproto=dhcp\n%pre --interpreter=busybox\n  echo '\t  ' \\\n   x\n\n\n"
	for _, end := range []string{"", "\n", "true", "true\n"} {
		out, err := Render(source(text+end), options(""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(out, []byte(text+end)) {
			t.Errorf("%q is not in:\n%s", text+end, out)
		}
	}
}

func TestRenderNoFirstBoot(t *testing.T) {
	o := options("8.0.3")
	o.FirstBoot = nil
	out, err := Render(source(valid), o)
	if err != nil || bytes.Contains(out, []byte("%firstboot")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRenderBad(t *testing.T) {
	for _, test := range []struct {
		name  string
		src   Source
		spoil func(*Options)
		class fault.Class
		want  string
	}{
		{"lint error", source(valid + "halt\n"), nil, fault.Input, "a.cfg:4: halt is no command"},
		{"lint errors", source("halt\n"), nil, fault.Input, `a.cfg:1: halt is no command of an ESXi kickstart; delete the line, esxid switches the build VM off by itself (and 2 more; "esxid lint" shows them all)`},
		{"nothing", Source{}, nil, fault.Input, "no kickstart"},
		{"rendered", source(valid + ownMark + "x ---\n"), nil, fault.Input, "added by esxid"},
		{"marker in the text", source(valid + "# " + testMarker + "\n"), nil, fault.Input, "contains the success marker"},
		{"marker too short", source(valid), func(o *Options) { o.Marker = "short" }, fault.Config, "marker"},
		{"marker with shell", source(valid), func(o *Options) { o.Marker = "abcdefgh';reboot;'" }, fault.Config, "marker"},
		{"no hash", source(valid), func(o *Options) { o.PasswordHash = "" }, fault.Config, "openssl passwd -6"},
		{"hash with rounds", source(valid), func(o *Options) { o.PasswordHash = "$6$rounds=5000$a$" + strings.Repeat("x", 86) }, fault.Config, "openssl passwd -6"},
		{"hash and more", source(valid), func(o *Options) { o.PasswordHash += "\nhalt" }, fault.Config, "openssl passwd -6"},
		{"version", source(valid), func(o *Options) { o.Version.Number = "x" }, fault.Input, "ESXi version"},
		{"first boot with a section", source(valid), func(o *Options) { o.FirstBoot = []byte("true\n%post --interpreter=busybox\nreboot\n") }, fault.Failed, "cannot render the kickstart"},
		{"first boot with a mark", source(valid), func(o *Options) { o.FirstBoot = []byte(ownMark + "\n%post --interpreter=busybox\n") }, fault.Failed, "3 sections of esxid instead of 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := options("8.0.3")
			if test.spoil != nil {
				test.spoil(&o)
			}
			out, err := Render(test.src, o)
			if err == nil || !strings.Contains(err.Error(), test.want) || fault.ClassOf(err) != test.class || out != nil {
				t.Errorf("class %d, %v", fault.ClassOf(err), err)
			}
			if err != nil && strings.Contains(err.Error(), "xxxx") {
				t.Error("the error repeats the hash")
			}
		})
	}
}

// ownBody returns the script of esxid's section with the given name.
func ownBody(t *testing.T, name string) string {
	t.Helper()
	text, err := Render(source(valid), options("8.0.3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range parse(source(string(text))).sections {
		if s.own && s.name == name {
			var b strings.Builder
			for _, line := range s.body {
				b.WriteString(line.text + "\n")
			}
			return b.String()
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

// The added %post, run by a real busybox: the marker arrives in one piece, then
// there is a pause, then the power goes. Debian's busybox prefers its own applets
// to programs in PATH, so sleep and poweroff are replaced by shell functions, and
// the script only runs if they really are.
func TestPostInBusybox(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	record := "#!/bin/sh\nfor a in \"${0##*/}\" \"$@\"; do printf '[%s]' \"$a\"; done >>'" + log + "'\necho >>'" + log + "'\n"
	for _, name := range []string{"vsish", "sleep", "poweroff"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(record), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var functions string
	for _, name := range []string{"sleep", "poweroff"} {
		functions += name + "() { " + dir + "/" + name + " \"$@\"; }\n" +
			"case $(command -V " + name + ") in *function*) ;; *) exit 99 ;; esac\n"
	}
	script := filepath.Join(dir, "post")
	if err := os.WriteFile(script, []byte(functions+ownBody(t, "%post")), 0o600); err != nil {
		t.Fatal(err)
	}
	busybox := exec.Command("busybox", "sh", script)
	busybox.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if out, err := busybox.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "[vsish][-e][set][/system/log][" + testMarker + "]\n[sleep][2]\n[poweroff][-f]\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestAddedScriptsPassShellcheck(t *testing.T) {
	for _, name := range []string{"%post", "%firstboot"} {
		shellcheck := exec.Command("shellcheck", "-s", "sh", "-")
		shellcheck.Stdin = strings.NewReader(ownBody(t, name))
		if out, err := shellcheck.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// What is added goes to the same log that is searched for the installer's
// errors, so it must not look like one.
func TestAddedTextIsNoFailure(t *testing.T) {
	text, err := Render(source(valid), options("8.0.3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, failure := range []string{"error", "Error", "adapters", "cannot", "OSDATA"} {
		if bytes.Contains(text, []byte(failure)) {
			t.Errorf("contains %q", failure)
		}
	}
}

// The packaged default is fit for every supported version as it is.
func TestDefault(t *testing.T) {
	for _, version := range []string{"6.5.0", "6.7.0", "7.0.3", "8.0.3", "9.0.0.0", ""} {
		for _, f := range Lint(source(string(builtInDefault)), Version{Number: version}) {
			if f.Level != Note {
				t.Errorf("%s: %v", version, f)
			}
		}
	}
}
