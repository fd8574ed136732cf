package guest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// ESXi 6.x has an EFI system partition of 4 MiB, which curtin writes to as well.
const maxPayload = 200 << 10 // bytes

// payloadFaults are what keeps files from being shipped: ESXi 8 and later run no
// programs but those of installed packages, so that all of it has to be source.
func payloadFaults(files []File) (faults []string) {
	size := 0
	for _, f := range files {
		size += len(f.Data)
		odd := bytes.IndexFunc(f.Data, func(r rune) bool { return r != '\n' && r != '\t' && (r < ' ' || r > '~') })
		switch {
		case len(f.Data) == 0:
			faults = append(faults, f.Path+" is empty")
		case bytes.HasPrefix(f.Data, []byte("\x7fELF")):
			faults = append(faults, f.Path+" is a program for another system")
		case odd >= 0:
			faults = append(faults, fmt.Sprintf("%s is no plain text: byte %d is %#x", f.Path, odd, f.Data[odd]))
		}
	}
	if size >= maxPayload {
		faults = append(faults, fmt.Sprintf("the payload has %d bytes, not less than %d", size, maxPayload))
	}
	return faults
}

func TestPayload(t *testing.T) {
	for _, s := range []Settings{{}, {WarnUnsupported: true}} {
		files := append(s.Files(), File{Path: "%firstboot", Data: FirstBoot()})
		if faults := payloadFaults(files); faults != nil {
			t.Error(strings.Join(faults, "\n"))
		}
	}
	hook := func(f File) bool { return f.Path == "curtin/curtin-hooks" }
	if files := Files(); !bytes.HasPrefix(files[slices.IndexFunc(files, hook)].Data, []byte("#!/usr/bin/python3\n")) {
		t.Error("the kernel cannot start curtin-hooks: no interpreter line")
	}
}

func TestPayloadFaultsAreFound(t *testing.T) {
	for data, want := range map[string]string{
		"":                              "x is empty",
		"\x7fELF\x02\x01":               "x is a program for another system",
		"\x1f\x8b\x08":                  "x is no plain text: byte 0 is 0x1f",
		"import os\r\n":                 "x is no plain text: byte 9 is 0xd",
		"# \u00fc\n":                    "x is no plain text: byte 2 is 0xc3",
		strings.Repeat("#", maxPayload): "the payload has 204800 bytes",
	} {
		faults := payloadFaults([]File{{Path: "x", Data: []byte(data)}})
		if len(faults) != 1 || !strings.Contains(faults[0], want) {
			t.Errorf("%.20q: %q, want %q", data, faults, want)
		}
	}
	if faults := payloadFaults([]File{{Path: "x", Data: []byte("#!/bin/sh\n")}}); faults != nil {
		t.Errorf("a good file: %q", faults)
	}
}
