// Package nbd_test uses internal/nbd with a real kernel: it boots Debian's in a
// small virtual machine and runs test/nbd/inside there as root.
package nbd_test

import (
	"strings"
	"testing"

	"github.com/esxid/esxid/test/tinylinux"
)

// scenarios are those of test/nbd/inside, in its order.
var scenarios = []string{
	"available",
	"payload-is-byte-equal",
	"devices-are-shared-out",
	"foreign-device-is-left-alone",
	"killed-owner",
	"killed-owner-whose-server-lives-on",
	"killed-server",
	"cancelled",
	"image-disk-full",
}

func TestInVirtualMachine(t *testing.T) {
	program, err := tinylinux.Build(t.Context(), "./test/nbd/inside")
	if err != nil {
		t.Fatal(err)
	}
	r, err := tinylinux.Run(t.Context(), tinylinux.Machine{
		Command: []string{"/inside"},
		Files:   map[string][]byte{"inside": program},
		Modules: []string{"nbd nbds_max=2"},
		WaitFor: []string{"/dev/nbd0", "/dev/nbd1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]string{}
	for line := range strings.Lines(string(r.Stdout)) {
		name, result, _ := strings.Cut(strings.TrimSpace(line), ": ")
		results[name] = result
	}
	for _, name := range scenarios {
		t.Run(name, func(t *testing.T) {
			got := results[name]
			t.Log(got) // "ok 0.8 s", or the error
			if !strings.HasPrefix(got, "ok ") {
				t.Fail()
			}
		})
	}
	if r.ExitCode != 0 || t.Failed() {
		t.Errorf("exit code %d\nstdout:\n%s\nstderr:\n%s\nconsole:\n%s", r.ExitCode, r.Stdout, r.Stderr, r.Console)
	}
}
