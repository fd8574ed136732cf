package tinylinux_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/tinylinux"
)

func ExampleRun() {
	r, err := tinylinux.Run(context.Background(), tinylinux.Machine{
		Command: []string{"sh", "-c", "id -un; echo to the other port >&2; exit 3"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s%s%d\n", r.Stdout, r.Stderr, r.ExitCode)
	// Output:
	// root
	// to the other port
	// 3
}

// The host's own tools see real disks, mount what is on them, and what they
// write is in the disk's file afterwards. The kernel's nbd is at hand.
func TestRunWithDisks(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first,raw"), filepath.Join(dir, "second.raw")
	for _, disk := range []string{first, second} {
		if err := os.WriteFile(disk, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(disk, 64<<20); err != nil {
			t.Fatal(err)
		}
	}
	script := `
set -e
sgdisk -n 1:2048:0 -t 1:ef00 /dev/sda >/dev/null
mkfs.vfat /dev/sda1 >/dev/null
mount /dev/sda1 /mnt
python3 -c 'import os; open("/mnt/made", "w").write("by python " + str(os.getuid()))'
umount /mnt
lsblk -n -d -o NAME,SIZE /dev/sda
cat /sys/block/nvme0n1/device/serial
qemu-nbd -f raw -c /dev/nbd0 /dev/sda
cat /sys/block/nbd0/size
qemu-nbd -d /dev/nbd0 >/dev/null
`
	r, err := tinylinux.Run(t.Context(), tinylinux.Machine{
		Command: []string{"sh", "/script"},
		Files:   map[string][]byte{"script": []byte(script)},
		Disks:   []tinylinux.Disk{{Path: first}, {Path: second, Bus: "nvme", Serial: "second"}},
		Modules: []string{"nbd max_part=16 nbds_max=2"},
		WaitFor: []string{"/dev/sda", "/dev/nvme0n1", "/dev/nbd1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "sda   64M\nsecond              \n131072\n"
	if r.ExitCode != 0 || string(r.Stdout) != want {
		t.Errorf("exit code %d, stdout %q, want %q; stderr:\n%s", r.ExitCode, r.Stdout, want, r.Stderr)
	}
	cmd := exec.Command("mtype", "-i", first+"@@1M", "::made")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "by python 0" {
		t.Errorf("mtype: %v, %q", err, out)
	}
}

func TestRunSaysWhatFailed(t *testing.T) {
	_, err := tinylinux.Run(t.Context(), tinylinux.Machine{
		Command: []string{"true"},
		WaitFor: []string{"/dev/sda"}, // a machine without a disk
	})
	if err == nil || !strings.Contains(err.Error(), "/dev/sda did not appear") {
		t.Errorf("err = %v, want the console's words", err)
	}
}
