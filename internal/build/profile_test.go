package build

import (
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

func TestProfileFor(t *testing.T) {
	tests := []struct {
		version, profile, nic, medium, layout string
		note                                  bool
	}{
		{"6.5.0", "6.5", "e1000", "cdrom", "6", false},
		{"6.7.0", "6.7", "e1000", "cdrom", "6", false},
		{"7.0.0", "7", "vmxnet3", "cdrom", "7", false},
		{"7.0.3", "7", "vmxnet3", "cdrom", "7", false},
		{"8.0.3", "8", "vmxnet3", "cdrom", "7", false},
		{"9.0.0.0", "9", "vmxnet3", "usb", "7", false},
		{"9.1.1.0", "9", "vmxnet3", "usb", "7", false},
		{"10.0.0", "9", "vmxnet3", "usb", "7", true},
	}
	for _, tt := range tests {
		t.Run(tt.version, func(t *testing.T) {
			p, note, err := ProfileFor(tt.version, nil)
			if err != nil {
				t.Fatal(err)
			}
			if p.Version != tt.profile || p.NIC != tt.nic || p.KickstartMedium != tt.medium || p.Layout != tt.layout {
				t.Errorf("got %+v", p)
			}
			if (note != "") != tt.note {
				t.Errorf("note = %q", note)
			}
			if list, err := expectedPartitions(p.Layout); err != nil || len(list) < 4 {
				t.Errorf("layout %s: %d partitions, %v", p.Layout, len(list), err)
			}
			if p.MemoryMiB < 4096 || p.CPUs < 2 || p.MAC == "" {
				t.Errorf("profile is not complete: %+v", p)
			}
		})
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	for _, version := range []string{"5.5.0", "6.0.0"} {
		if _, _, err := ProfileFor(version, nil); fault.ClassOf(err) != fault.Input || !strings.Contains(err.Error(), "6.5") {
			t.Errorf("ESXi %s: %v", version, err)
		}
	}
}

func TestMostSpecificOverrideWins(t *testing.T) {
	p, _, err := ProfileFor("8.0.3", map[string]config.Profile{
		"8":     {NIC: "e1000e", CPUs: 8},
		"8.0":   {CPUs: 6},
		"8.0.2": {CPUs: 4},
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.CPUs != 6 || p.NIC != "vmxnet3" {
		t.Errorf("CPUs = %d, NIC = %s; want those of the table \"8.0\" alone", p.CPUs, p.NIC)
	}
}

func TestBootOptionsStartWithTheKickstart(t *testing.T) {
	p, _, err := ProfileFor("9.0.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.BootOptions()[0]; got != "ks=usb:/KS.CFG" {
		t.Errorf("first option = %q", got)
	}
}
