package vm

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// profiles are machines like those that ESXi's versions are installed on.
var profiles = map[string]Hardware{
	"6.5": {
		Machine: "pc", NIC: "e1000", MAC: "00:50:56:00:65:01", DiskBus: "ide", CDBus: "ide",
		KickstartMedium: "cdrom", MemoryMiB: 4096, CPUs: 2, DiskSize: 32 << 30,
	},
	"6.7": {
		Machine: "pc", NIC: "e1000e", MAC: "00:50:56:00:67:01", DiskBus: "ahci", CDBus: "ide",
		KickstartMedium: "cdrom", MemoryMiB: 4096, CPUs: 2, CPUModel: "Skylake-Server,+vmx", DiskSize: 32 << 30,
	},
	"7.0": {
		Machine: "pc", NIC: "vmxnet3", MAC: "00:50:56:00:70:01", DiskBus: "ahci", CDBus: "ahci",
		KickstartMedium: "cdrom", MemoryMiB: 8192, CPUs: 2, DiskSize: 32 << 30,
	},
	"8.0": {
		Machine: "pc", NIC: "vmxnet3", MAC: "00:50:56:00:80:01", DiskBus: "ahci", CDBus: "ide",
		KickstartMedium: "usb", MemoryMiB: 8192, CPUs: 4, DiskSize: 32 << 30,
	},
	"9.0": {
		Machine: "q35", NIC: "vmxnet3", MAC: "00:50:56:00:90:01", DiskBus: "ahci", CDBus: "ahci",
		KickstartMedium: "usb", MemoryMiB: 8192, CPUs: 4, DiskSize: 32 << 30,
	},
	"9.0-cdrom": {
		Machine: "q35", NIC: "e1000e", MAC: "00:50:56:00:90:02", DiskBus: "ahci", CDBus: "ahci",
		KickstartMedium: "cdrom", MemoryMiB: 8192, CPUs: 4, DiskSize: 32 << 30,
	},
}

func TestCommandLine(t *testing.T) {
	for name, h := range profiles {
		t.Run(name, func(t *testing.T) {
			if err := h.Check(); err != nil {
				t.Fatal(err)
			}
			accel := "kvm"
			if name == "9.0-cdrom" {
				accel = "tcg"
			}
			got := CommandLine(Spec{
				Dir: "/var/lib/esxid/builds/0123,abcd", ISO: "/srv/isos/VMware <8.0>.iso", Kickstart: "/srv/ks.img",
				Disk: "/srv/disk.raw", Hardware: h, Accel: accel, Marker: marker,
			})
			golden := filepath.Join("testdata", "commandline", name+".golden")
			text := strings.Join(got, "\n") + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text); diff != "" {
				t.Errorf("command line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHardwareCheck(t *testing.T) {
	for want, spoil := range map[string]func(*Hardware){
		"machine":               func(h *Hardware) { h.Machine = "virt" },
		"NIC":                   func(h *Hardware) { h.NIC = "e1000,addr=1" },
		"MAC":                   func(h *Hardware) { h.MAC = "01:00:5e:00:00:01" },
		"disk bus":              func(h *Hardware) { h.DiskBus = "virtio" },
		"CD bus":                func(h *Hardware) { h.CDBus = "" },
		"q35 has no IDE":        func(h *Hardware) { h.Machine = "q35" },
		"kickstart medium":      func(h *Hardware) { h.KickstartMedium = "floppy" },
		"memory":                func(h *Hardware) { h.MemoryMiB = 4 },
		"CPUs":                  func(h *Hardware) { h.CPUs = 0 },
		"CPU model":             func(h *Hardware) { h.CPUModel = "-version" },
		"not a positive multip": func(h *Hardware) { h.DiskSize = 1000 },
	} {
		h := smallPC
		spoil(&h)
		err := h.Check()
		if err == nil || !strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.Config {
			t.Errorf("Check = %v (class %d), want one about %q", err, fault.ClassOf(err), want)
		}
	}
}

func TestSpecIsChecked(t *testing.T) {
	good := Spec{
		Dir: "/d", ISO: "/i", ISOSize: 4096, Kickstart: "/k", Disk: "/r",
		Hardware: smallPC, Accel: "tcg", Marker: marker,
	}
	if _, err := good.prepared(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Spec){
		"accelerator":           func(s *Spec) { s.Accel = "auto" },
		"marker":                func(s *Spec) { s.Marker = "two words" },
		"ISO size":              func(s *Spec) { s.ISOSize = 1000 },
		"need a path":           func(s *Spec) { s.Disk = "" },
		"not UTF-8":             func(s *Spec) { s.ISO = "/\xff" },
		"ISO write of 512":      func(s *Spec) { s.ISOWrites = []Write{{Offset: 4096, Data: make([]byte, 512)}} },
		"ISO write of 3":        func(s *Spec) { s.ISOWrites = []Write{{Data: make([]byte, 3)}} },
		"machine":               func(s *Spec) { s.Hardware.Machine = "" },
		"bytes at -512 is not":  func(s *Spec) { s.ISOWrites = []Write{{Offset: -512, Data: make([]byte, 512)}} },
		"ISO write of 0 bytes ": func(s *Spec) { s.ISOWrites = []Write{{}} },
	} {
		s := good
		spoil(&s)
		if _, err := s.prepared(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("prepared = %v, want one about %q", err, want)
		}
	}
}
