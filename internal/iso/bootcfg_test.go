package iso

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseBootConfig(t *testing.T) {
	text := "# a comment = 1\r\n" +
		"  Title \t=  Loading \t ESXi\vinstaller \r\n" +
		"\r\n" +
		"kernel=/b.b00\n" +
		"KERNELOPT = first\n" +
		"kernelopt=  runweasel   cdromBoot\n" +
		"modules=/a.b00 with options --- b.v00---/c.v00 --- \n" +
		"timeout=5\nerrtimeout=-1\nskip=\nnorts=+1\n" +
		"unknown=x=y\nacpitables=\nno equals sign\n" +
		"build="
	c, err := parseBootConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.text()); got != text {
		t.Errorf("the text changed to %q", got)
	}
	for key, want := range map[string]string{
		"title": "Loading ESXi installer", "kernel": "/b.b00", "kernelopt": "runweasel cdromBoot", "timeout": "5", "errtimeout": "-1",
		"skip": "", "unknown": "x=y", "build": "", "missing": "", "": "", "no equals sign": "", "# a comment": "",
	} {
		if got := c.get(key); got != want {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
	if diff := cmp.Diff([]string{"/b.b00", "/a.b00", "b.v00", "/c.v00"}, c.files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestParseBootConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"timeout=5s":            `line 1: the value of timeout is not a number: "5s"`,
		"a=b\nBootState = - \n": `line 2: the value of bootstate is not a number: "-"`,
		"quickboot=1 2":         `not a number: "1 2"`,
		"updated=\x1b[2J":       `not a number: "?[2J"`,
		"runtimewdtimeout=" + strings.Repeat("x", 500): `xxx..."`,
		"a\x00b":                             "not a text file",
		strings.Repeat("#", maxBootConfig+1): "more than 65536 bytes",
	} {
		if _, err := parseBootConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestSetKernelOptions(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "a=1\nkernelopt=old ones\nb=2\n", "a=1\nkernelopt=new\nb=2\n"},
		{"keeps line ends", "a=1\r\nkernelopt=old\r\n# c\nb=2", "a=1\r\nkernelopt=new\r\n# c\nb=2"},
		{"keeps the key as written", "\tKernelOpt\t=  old\n", "\tKernelOpt\t=new\n"},
		{"empty", "kernelopt=\n", "kernelopt=new\n"},
		{"without line end", "kernelopt=old", "kernelopt=new"},
		{"last of two", "kernelopt=a\nkernelopt=b\nx=\n", "kernelopt=a\nkernelopt=new\nx=\n"},
		{"missing", "a=1\n", "a=1\nkernelopt=new\n"},
		{"missing, CRLF, no line end", "a=1\r\nb=2", "a=1\r\nb=2\r\nkernelopt=new\r\n"},
		{"missing, one line", "a=1", "a=1\nkernelopt=new\n"},
		{"commented out", "#kernelopt=x\n", "#kernelopt=x\nkernelopt=new\n"},
		{"empty file", "", "kernelopt=new\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseBootConfig([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			c.setKernelOptions([]string{"new"})
			if diff := cmp.Diff(tt.want, string(c.text())); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			if got := c.get("kernelopt"); got != "new" {
				t.Errorf("kernelopt is %q afterwards", got)
			}
		})
	}
}

func TestBootOptions(t *testing.T) {
	tests := []struct {
		name, tokens string
		options      BootOptions
		want         string
	}{
		{"stock", "runweasel cdromBoot", BootOptions{Add: []string{"ks=cdrom:/KS.CFG"}, Remove: []string{"cdromBoot"}}, "runweasel ks=cdrom:/KS.CFG"},
		{"OEM order", "cdromBoot runweasel", BootOptions{Add: []string{"ks=cdrom:/KS.CFG"}, Remove: []string{"cdromBoot"}}, "runweasel ks=cdrom:/KS.CFG"},
		{"replaces in place", "ks=usb a=1 KS=nfs b", BootOptions{Add: []string{"ks=file:///KS.CFG"}}, "ks=file:///KS.CFG a=1 b"},
		{"removes by name, every one", "A=1 b a=2", BootOptions{Remove: []string{"a"}}, "b"},
		{"does not remove by prefix", "logPort log", BootOptions{Remove: []string{"log"}}, "logPort"},
		{"removes before it adds", "x=1", BootOptions{Add: []string{"x=2"}, Remove: []string{"x"}}, "x=2"},
		{"last of two added", "", BootOptions{Add: []string{"x=1", "x=2"}}, "x=2"},
		{"value with equals sign", "", BootOptions{Add: []string{"a=b=c"}}, "a=b=c"},
		{"empty", "", BootOptions{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(tt.options.apply(blanks(tt.tokens)), " "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzBootConfig(f *testing.F) {
	for _, name := range []string{"bootcfg.6.5.txt", "bootcfg.7.0.0.txt", "bootcfg.8.0.3.txt", "bootcfg.9.1.1.txt"} {
		f.Add([]byte(testdata(f, name)), "ks=cdrom:/KS.CFG", "cdromBoot")
	}
	f.Add([]byte("kernelopt\r=\r\n=\nkernelopt=x"), "a=1", "x")
	f.Fuzz(func(t *testing.T, data []byte, add, remove string) {
		c, err := parseBootConfig(data)
		if err != nil {
			return
		}
		if !bytes.Equal(c.text(), data) {
			t.Fatalf("the text changed: %q", c.text())
		}
		options := BootOptions{Add: []string{add}, Remove: []string{remove}}
		if options.check() != nil {
			return
		}
		values := map[string]string{}
		for _, l := range c.lines {
			values[l.key] = c.get(l.key)
		}
		want := options.apply(c.kernelOptions())
		c.setKernelOptions(want)
		again, err := parseBootConfig(c.text())
		if err != nil {
			if len(c.text()) > maxBootConfig {
				return
			}
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Join(want, " "), again.get("kernelopt")); diff != "" {
			t.Errorf("kernelopt (-want +got):\n%s", diff)
		}
		for key, value := range values {
			if key != "kernelopt" && again.get(key) != value {
				t.Errorf("%q changed from %q to %q", key, value, again.get(key))
			}
		}
	})
}
