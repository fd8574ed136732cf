package esxisim_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/test/esxisim"
)

const rootHash = "$6$abcdefgh12345678$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

const kickstart = `vmaccepteula
rootpw --iscrypted ` + rootHash + `
install --firstdisk --overwritevmfs
network --bootproto=dhcp --device=vmnic0
reboot
%pre --interpreter=busybox
echo "keyboard 'US Default'" > /tmp/more.cfg
%post --interpreter=busybox --ignorefailure=true
ls /vmfs/volumes/BOOTBANK1/s.v00
echo added > /vmfs/volumes/BOOTBANK1/added.txt
begin=all
vsish -e set /system/log "${begin}-is-well"
poweroff -f
echo still here
sleep 100
%firstboot --interpreter=busybox
echo first
`

const marker = "all-is-well"

// machine is what differs between the virtual machines.
type machine struct {
	options esxisim.Options
	kernel  string   // kernelopt= of the patched boot.cfg
	qemu    []string // machine, firmware, NIC, disk "d" and CD "cd" and kickstart "ks"
	usb     bool     // the kickstart is on a stick, not on a CD
}

var (
	pc = []string{
		"-machine", "pc", "-device", "ide-cd,bus=ide.0,drive=cd,bootindex=0", "-device", "ide-cd,bus=ide.1,drive=ks",
		"-device", "ahci,id=ahci", "-device", "ide-hd,bus=ahci.0,drive=d",
	}
	q35 = []string{
		"-machine", "q35", "-device", "ide-cd,bus=ide.0,drive=cd,bootindex=0", "-device", "qemu-xhci,id=usb",
		"-device", "usb-storage,bus=usb.0,drive=ks", "-device", "nvme,serial=one,drive=d",
	}
)

// start boots the installer and returns its running QEMU, and the paths of the
// serial log and the disk.
func (m machine) start(t *testing.T) (qemu *command.Process, console, disk string) {
	t.Helper()
	dir := t.TempDir()
	iso, medium := filepath.Join(dir, "installer.iso"), filepath.Join(dir, "ks")
	console, disk = filepath.Join(dir, "console.log"), filepath.Join(dir, "disk.raw")
	m.options.PayloadMiB = 8
	if err := esxisim.BuildISO(t.Context(), m.options, iso); err != nil {
		t.Fatal(err)
	}
	patch(t, iso, m.kernel)
	if m.usb {
		writeStick(t, medium)
	} else {
		writeCD(t, medium)
	}
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 32<<30); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	qemu, err := command.Start(ctx, command.Cmd{Name: "qemu-system-x86_64", Args: append([]string{
		"-nodefaults", "-display", "none", "-vga", "std", "-no-reboot", "-accel", "tcg", "-cpu", "max", "-m", "4096", "-smp", "2",
		"-serial", "file:" + console,
		"-drive", "if=none,id=cd,media=cdrom,readonly=on,format=raw,file=" + iso,
		"-drive", "if=none,id=ks,readonly=on,format=raw,file=" + medium,
		"-drive", "if=none,id=d,format=raw,cache=unsafe,file=" + disk,
	}, m.qemu...)})
	if err != nil {
		t.Fatal(err)
	}
	return qemu, console, disk
}

func TestInstall(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]machine{
		"6.7 from CDs": {
			options: esxisim.Options{Version: "6.7"},
			kernel:  "runweasel ks=cdrom:/KS.CFG logPort=com1 gdbPort=none",
			qemu:    append([]string{"-netdev", "user,id=n,restrict=on", "-device", "e1000,netdev=n,mac=52:54:00:00:00:67"}, pc...),
		},
		"9.0 with UEFI from USB": {
			options: esxisim.Options{Version: "9.0", OEM: "dell"}, usb: true,
			kernel: "systemMediaSize=min runweasel ks=usb://ks.cfg logPort=com1",
			qemu:   append([]string{"-bios", "/usr/share/ovmf/OVMF.fd", "-netdev", "user,id=n,restrict=on", "-device", "e1000e,netdev=n,mac=52:54:00:00:00:67"}, q35...),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			qemu, console, disk := m.start(t)
			err := qemu.Wait()
			log, readErr := os.ReadFile(console)
			if err != nil || readErr != nil {
				t.Fatalf("%v, %v\n%s", err, readErr, log)
			}
			before, _, done := strings.Cut(string(log), "cpu0:65536)"+marker+"\r\n")
			if !done || strings.Contains(before, marker) || strings.Contains(string(log), "%post: still here") {
				t.Fatalf("the marker is not where it belongs in the log:\n%s", log)
			}
			for _, want := range []string{`)begin=all`, `)%post: /vmfs/volumes/BOOTBANK1/s.v00`, "100%  writing to the disk"} {
				if !strings.Contains(before, want) {
					t.Errorf("no %q in the log:\n%s", want, before)
				}
			}
			checkDisk(t, disk, m.options)
		})
	}
}

// checkDisk compares a disk with what the release should have left there.
func checkDisk(t *testing.T, disk string, o esxisim.Options) {
	t.Helper()
	o.PayloadMiB = 8
	release, err := esxisim.NewRelease(o)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := release.Layout(32<<30, esxisim.LayoutOptions{MediaSize: "min"})
	if err != nil {
		t.Fatal(err)
	}
	table := strings.Join(strings.Fields(run(t, "sgdisk", "-p", disk)), " ")
	var bank string
	for _, p := range parts {
		if want := fmt.Sprintf(" %d %d %d ", p.Number, p.First, p.Last); !strings.Contains(table, want) {
			t.Errorf("no partition%sin %s", want, table)
		}
		if p.Number == 5 {
			bank = fmt.Sprintf("%s@@%d", disk, p.First*esxisim.Sector)
		}
	}
	if out := run(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	for _, m := range release.Modules() {
		if m.Name != "s.v00" {
			continue
		}
		r, err := m.Open()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, "mtype", "-i", bank, "::s.v00"); got != string(want) {
			t.Error("s.v00 of the CD came to the bank changed")
		}
	}
	if got := run(t, "mtype", "-i", bank, "::added.txt"); got != "added\n" {
		t.Errorf("what %%post wrote: %q", got)
	}
	state := exec.Command("sh", "-c", `mtype -i "$0" ::state.tgz | tar -xzO local.tgz | tar -xzO`, bank)
	out, err := state.Output()
	if err != nil || !bytes.Contains(out, []byte("root:"+rootHash+":")) || !bytes.Contains(out, []byte("52:54:00:00:00:67")) {
		t.Errorf("state.tgz: %v\n%s", err, out)
	}
}

// A failure is shown and logged, and the machine goes on running: nobody is
// there to press a key.
func TestInstallFails(t *testing.T) {
	t.Parallel()
	qemu, console, _ := machine{
		options: esxisim.Options{Version: "8.0.3"},
		kernel:  "runweasel ks=cdrom:/KS.CFG logPort=com1",
		qemu:    append([]string{"-netdev", "user,id=n,restrict=on", "-device", "e1000,netdev=n"}, pc...), // its driver was removed in 7.0
	}.start(t)
	const want = "HandledError: No network adapters were detected"
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for failed := false; !failed; {
		select {
		case <-qemu.Done():
			t.Fatalf("the machine stopped: %v", qemu.Wait())
		case <-tick.C:
		}
		log, err := os.ReadFile(console)
		failed = err == nil && bytes.Contains(log, []byte(want))
	}
	qemu.Kill()
	<-qemu.Done()
}

// patch gives both boot.cfg another kernelopt=, the way it is done to a CD
// that cannot be written: the new text lies behind the old end of the volume,
// and the directory records point to it.
func patch(t *testing.T, iso, kernelOptions string) {
	t.Helper()
	image, err := os.ReadFile(iso)
	if err != nil {
		t.Fatal(err)
	}
	const name = "\x0aBOOT.CFG;1" // with its length before it
	at := bytes.Index(image, []byte(name)) - 32
	old := binary.LittleEndian.Uint32(image[at+2:]) * 2048
	text := string(image[old:][:binary.LittleEndian.Uint32(image[at+10:])])
	before, rest, _ := strings.Cut(text, "kernelopt=")
	_, after, _ := strings.Cut(rest, "\n")
	text = before + "kernelopt=" + kernelOptions + "\n" + after

	sector := uint32(len(image) / 2048)
	records := 0
	for from := 0; ; records++ {
		next := bytes.Index(image[from:], []byte(name))
		if next < 0 {
			break
		}
		record := image[from+next-32:]
		bothEndian(record[2:], sector)
		bothEndian(record[10:], uint32(len(text)))
		from += next + len(name)
	}
	if records != 2 {
		t.Fatalf("%d records of boot.cfg", records)
	}
	image = append(image, text...)
	image = append(image, make([]byte, -len(image)&2047)...)
	bothEndian(image[16*2048+80:], uint32(len(image)/2048))
	if err := os.WriteFile(iso, image, 0o644); err != nil {
		t.Fatal(err)
	}
}

// bothEndian is ECMA-119 7.3.3.
func bothEndian(b []byte, value uint32) {
	binary.LittleEndian.PutUint32(b, value)
	binary.BigEndian.PutUint32(b[4:], value)
}

func writeCD(t *testing.T, path string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "KS.CFG"), []byte(kickstart), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "xorriso", "-as", "mkisofs", "-quiet", "--norock", "-V", "KS", "-o", path, dir)
}

// writeStick makes a USB stick of 32 MiB with one FAT partition.
func writeStick(t *testing.T, path string) {
	t.Helper()
	const start, sectors = 2048, 63488
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mbr := make([]byte, 512)
	copy(mbr[446:], "\x00\xfe\xff\xff\x0e\xfe\xff\xff")
	binary.LittleEndian.PutUint32(mbr[454:], start)
	binary.LittleEndian.PutUint32(mbr[458:], sectors)
	copy(mbr[510:], "\x55\xaa")
	if _, err := file.Write(mbr); err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate((start + sectors) * 512); err != nil {
		t.Fatal(err)
	}
	err = esxisim.WriteFAT(file, start*512, esxisim.FAT{Sectors: sectors, Hidden: start}, []esxisim.Module{{
		Name: "KS.CFG", Size: int64(len(kickstart)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(kickstart)), nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Errorf("%s %v: %v", name, args, err)
	}
	return string(out)
}
