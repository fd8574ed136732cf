package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/esxisim/weasel"
	"github.com/esxid/esxid/test/tinylinux/pid1"
	"golang.org/x/sys/unix"
)

// cd is where the boot CD is mounted, with the names as they are stored.
const cd = "/cd"

// loaded is what the boot loader leaves in memory.
type loaded struct {
	config   esxisim.BootConfig
	modules  []esxisim.Module // the kernel first
	efi      []esxisim.Module
	bootCode []byte
}

// load finds the CD, reads its boot.cfg, shows the prompt for other boot
// options and reads everything boot.cfg names into memory.
func load(release esxisim.Release) (*loaded, error) {
	if err := mountCD(); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Unmount(cd, 0) }() // nothing was written
	path := "/BOOT.CFG"
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		path = "/EFI/BOOT/BOOT.CFG"
	}
	text, err := readAnyCase(path)
	if err != nil {
		return nil, err
	}
	var l loaded
	if l.config, err = esxisim.ParseBootConfig(string(text)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	fmt.Printf("%s\n\n<ENTER: Boot>   <SHIFT+O: Edit boot options>\n\n", l.config.Title)
	for _, name := range append([]string{l.config.Kernel}, l.config.Modules...) {
		if err := l.module(filepath.Join("/", l.config.Prefix, name), release); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"BOOTX64.EFI", "SAFEBOOT.EFI", "CRYPTO64.EFI"} {
		if data, err := weasel.ReadExact(cd, "/EFI/BOOT/"+name); err == nil { // CRYPTO64 is in newer ones only
			l.efi = append(l.efi, memoryModule("EFI/BOOT/"+name, data))
		}
	}
	if l.bootCode, err = weasel.ReadExact(cd, "/UPGRADE/GPTMBR.BIN"); err != nil {
		return nil, err
	}
	countDown(l.config.Timeout)
	return &l, nil
}

// module reads one file into memory. A module that is none of the release's
// own is unpacked over the root, like any is in the real system.
func (l *loaded) module(path string, release esxisim.Release) error {
	data, err := readAnyCase(path)
	if err != nil {
		return err
	}
	fmt.Printf("Loading %s\n", path)
	name := strings.ToLower(filepath.Base(path))
	l.modules = append(l.modules, memoryModule(name, data))
	if !strings.HasSuffix(name, ".tgz") || slices.ContainsFunc(release.Modules(), func(m esxisim.Module) bool { return m.Name == name }) {
		return nil
	}
	cmd := exec.Command("/bin/busybox", "tar", "-xzf", "-", "-C", "/")
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot unpack %s: %w: %s", path, err, out)
	}
	return nil
}

func memoryModule(name string, data []byte) esxisim.Module {
	return esxisim.Module{Name: name, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// mountCD mounts the optical unit that holds an installer. On a busy host a
// unit may take some time until it is there and ready.
func mountCD() error {
	const patience = 60 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		units, err := filepath.Glob("/dev/sr*")
		if err != nil {
			return err
		}
		for _, unit := range units {
			if err := pid1.Mount("iso9660", unit, cd, unix.MS_RDONLY, weasel.CDOptions); err != nil {
				continue // an empty unit, or one with something else in it
			}
			if _, err := readAnyCase("/ISOLINUX.BIN"); err == nil {
				return nil
			}
			if err := unix.Unmount(cd, 0); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("no installer in any CD unit within %v", patience)
}

// readAnyCase reads a file of the CD; the loader knows no case.
func readAnyCase(path string) ([]byte, error) {
	data, err := weasel.ReadExact(cd, strings.ToUpper(path))
	if err != nil {
		return weasel.ReadExact(cd, path)
	}
	return data, nil
}

// countDown waits until the boot has taken the seconds that the loader gives
// an operator to press Shift+O. Loading counts: the real loader is slower.
func countDown(seconds int) {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		time.Sleep(time.Duration(int64(seconds)-info.Uptime) * time.Second)
	}
}
