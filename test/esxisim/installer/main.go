// Command installer is the /init of the simulated installer ISO. It plays the
// boot loader, which reads boot.cfg from the CD it was started from, and then
// the system that runs the installer. Under other names it is one of the
// programs that scripts of a kickstart call.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/esxisim/weasel"
	"github.com/esxid/esxid/test/tinylinux/pid1"
	"golang.org/x/sys/unix"
)

func main() {
	if applet := applets[filepath.Base(os.Args[0])]; applet != nil {
		os.Exit(applet(os.Args[1:]))
	}
	if err := boot(); err != nil {
		fmt.Printf("\n%v\n", err)
	}
	wait()
}

// wait is for a key that nobody presses. A bare select would be a deadlock in
// the eyes of Go's runtime.
func wait() {
	for {
		_ = unix.Pause() // returns for a signal only
	}
}

// What the real boot loader and the real installer begin their last words with.
const (
	notFound   = "Fatal error: 15 (Not found)"
	unexpected = "An unexpected error occurred"
)

// boot goes from the boot loader to the end of the installation.
func boot() error {
	release, err := setUp()
	if err != nil {
		return err
	}
	loaded, err := load(release)
	if err != nil {
		return fmt.Errorf("%s: %w", notFound, err)
	}
	options := weasel.ParseBootOptions(loaded.config.KernelOptions)
	log, err := weasel.OpenLog(options)
	if err != nil {
		return err
	}
	for _, m := range loaded.modules {
		log.Printf("loaded %s (%d bytes)", m.Name, m.Size)
	}
	log.Printf("%s is up, kernel options: %s", release.Profile, loaded.config.KernelOptions)
	if !options.Has("runweasel") {
		fmt.Println("The system is up. It was not told to start the installer.")
		return nil
	}
	in := weasel.Installer{
		Release: release, Options: options, Modules: loaded.modules, EFI: loaded.efi, BootCode: loaded.bootCode,
		Sys: "/sys", Screen: os.Stdout, Log: log,
	}
	reboot, err := in.Run()
	if err != nil {
		log.Printf("%s\nHandledError: %v", unexpected, err)
		return fmt.Errorf("%s\n\n%w", unexpected, err)
	}
	if reboot {
		unix.Sync()
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return nil
}

// setUp mounts, loads the drivers and puts the programs for scripts in place.
func setUp() (esxisim.Release, error) {
	var options esxisim.Options
	if err := pid1.MountKernel("/"); err != nil {
		return esxisim.Release{}, err
	}
	if err := pid1.LoadModules(); err != nil {
		return esxisim.Release{}, err
	}
	for _, dir := range []string{"/tmp", "/run"} {
		if err := os.MkdirAll(dir, 0o1777); err != nil {
			return esxisim.Release{}, err
		}
	}
	if out, err := exec.Command("/bin/busybox", "--install", "-s", "/bin").CombinedOutput(); err != nil {
		return esxisim.Release{}, fmt.Errorf("busybox --install: %w: %s", err, out)
	}
	for name := range applets {
		path := "/bin/" + name
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return esxisim.Release{}, err
		}
		if err := os.Symlink("/init", path); err != nil {
			return esxisim.Release{}, err
		}
	}
	text, err := os.ReadFile("/options.json")
	if err != nil {
		return esxisim.Release{}, err
	}
	if err := json.Unmarshal(text, &options); err != nil {
		return esxisim.Release{}, err
	}
	return esxisim.NewRelease(options)
}
