package esxisim

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Tables of real hosts, as partedUtil getptbl printed them.
func TestLayoutIsThatOfRealHosts(t *testing.T) {
	for _, c := range []struct {
		file, version string
		sectors       int64 // 0: as the sample says
		options       LayoutOptions
		not           int // a partition that the sample's owner changed later
	}{
		{file: "getptbl.6.x-1TB.txt", version: "6.7"},
		{file: "getptbl.6.x-small.txt", version: "6.5"},
		{file: "getptbl.6.x-usb-no-vmfs.txt", version: "6.7", options: LayoutOptions{USB: true}},
		{file: "getptbl.7plus-default-128GB.txt", version: "7.0", not: 8},
		{file: "getptbl.7plus-small-disk-1GiB-bootbanks.txt", version: "7.0.3", sectors: 10 << 30 / Sector, not: 8},
		{file: "getptbl.7plus-usb-no-osdata.txt", version: "8.0.3", options: LayoutOptions{USB: true}},
	} {
		text, err := os.ReadFile("testdata/" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if c.sectors == 0 {
			if _, err := fmt.Sscanf(strings.Fields(lines[1])[3], "%d", &c.sectors); err != nil {
				t.Fatal(err)
			}
		}
		parts, err := Layout(c.version, c.sectors*Sector, c.options)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		compare(t, c.file, parts, lines[2:], c.not)
	}
}

func compare(t *testing.T, name string, parts []Partition, want []string, not int) {
	t.Helper()
	number := fmt.Sprintf("%d ", not)
	var got []string
	for _, p := range parts {
		if p.Number != not {
			got = append(got, p.String())
		}
	}
	for i := len(want) - 1; i >= 0; i-- {
		if strings.HasPrefix(want[i], number) {
			want = append(want[:i], want[i+1:]...)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLayoutSizes(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		version string
		size    int64
		options LayoutOptions
		last    string // the last partition, or the end of the error
	}{
		{"8.0.3", 32 * gib, LayoutOptions{MediaSize: "min"}, "7 16986112 67108830 "},
		{"8.0.3", 32 * gib, LayoutOptions{}, "7 16986112 67108830 "},
		{"9.0", 80 * gib, LayoutOptions{MediaSize: "min"}, "8 67110912 167772126 "},
		{"8.0.3", 96 * gib, LayoutOptions{}, "7 16986112 201326558 "},
		{"8.0.3", 96 * gib, LayoutOptions{MediaSize: "small"}, "8 134219776 201326558 "},
		{"8.0.3", 200 * gib, LayoutOptions{MediaSize: "max"}, "7 16986112 419430366 "},
		{"8.0.3", 200 * gib, LayoutOptions{NoVMFS: true}, "7 16986112 268435455 "},
		{"7.0.0", 80 * gib, LayoutOptions{MediaSize: "min"}, "7 16986112 167772126 "}, // the option came later
		{"8.0.3", 80 * gib, LayoutOptions{MediaSize: "tiny"}, "7 16986112 167772126 "},
		{"8.0.3", 10 * gib, LayoutOptions{MediaSize: "min"}, "disk device does not support OSDATA"},
		{"7.0.3", 8 * gib, LayoutOptions{}, "disk device does not support OSDATA"},
		{"6.7", 32 * gib, LayoutOptions{NoVMFS: true}, "2 7086080 15472639 "},
		{"6.7", 4 * gib, LayoutOptions{}, "9 1843200 7086079 "},
		{"6.7", gib / 2, LayoutOptions{}, "the disk is smaller than 1 GiB"},
	} {
		parts, err := Layout(c.version, c.size, c.options)
		last := fmt.Sprint(err)
		if err == nil {
			last = parts[len(parts)-1].String()
		}
		if !strings.HasPrefix(last, c.last) {
			t.Errorf("%s, %d GiB, %+v: %q, want %q", c.version, c.size/gib, c.options, last, c.last)
		}
	}
}
