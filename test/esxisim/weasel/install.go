package weasel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/tinylinux/pid1"
	"golang.org/x/sys/unix"
)

// install writes the disk.
func (in *Installer) install(plan Plan, scripts []Script, disk Disk, parts []esxisim.Partition, mac string) error {
	hash, err := rootHash(plan)
	if err != nil {
		return err
	}
	file, err := os.OpenFile("/dev/"+disk.Node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, p := range parts {
		in.Log.Printf("installer: partition %v", p)
	}
	shown := -5
	i := esxisim.Installation{
		Release: in.Release, Partitions: parts, Modules: in.Modules, EFI: in.EFI, BootCode: in.BootCode,
		RootHash: hash, MAC: mac, Random: rand.Reader,
		Progress: func(name string, done, total int64) {
			if percent := int(done * 100 / total); percent >= shown+5 {
				shown = percent
				in.say("%3d%%  copying %s", percent, name)
			}
		},
	}
	for _, s := range scripts {
		if s.Kind == "firstboot" {
			i.FirstBoot = append(i.FirstBoot, "#!/bin/"+strings.Replace(s.Interpreter, "busybox", "sh", 1)+"\n"+s.Body)
		}
	}
	if err := i.Write(file, disk.Size); err != nil {
		return err
	}
	in.say("100%%  writing to the disk")
	if err := file.Sync(); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(file.Fd()), unix.BLKRRPART, 0)
}

// rootHash is what /etc/shadow gets.
func rootHash(plan Plan) (string, error) {
	if plan.Crypted {
		return plan.Password, nil
	}
	cmd := exec.Command("/bin/busybox", "cryptpw", "-m", "sha512", "-P", "0")
	cmd.Stdin = strings.NewReader(plan.Password + "\n")
	hash, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot hash the password of root: %w", err)
	}
	return strings.TrimSpace(string(hash)), nil
}

// banks are where %post finds the new boot banks, partitions 5 and 6.
var banks = [...]string{"/vmfs/volumes/BOOTBANK1", "/vmfs/volumes/BOOTBANK2"}

func mountBanks(disk Disk) error {
	partition := "/dev/" + disk.Node
	if strings.HasPrefix(disk.Node, "nvme") {
		partition += "p"
	}
	for i, dir := range banks {
		device := partition + strconv.Itoa(5+i)
		if err := pid1.Mount("vfat", device, dir, 0, ""); err != nil {
			return err
		}
		if err := clearDirty(device); err != nil {
			return err
		}
	}
	return nil
}

// clearDirty takes away the mark that Linux sets in the boot sector of a FAT
// volume while it is mounted: %post may well switch the machine off.
func clearDirty(device string) error {
	const state = 37 // Microsoft FAT specification 1.03, BS_Reserved1
	file, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte{0}, state)
	return errors.Join(err, file.Close())
}

func unmountBanks() error {
	var errs []error
	for _, dir := range banks {
		errs = append(errs, unix.Unmount(dir, 0))
	}
	return errors.Join(errs...)
}
