package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/esxid/esxid/test/esxisim/host"
	"golang.org/x/sys/unix"
)

// enter makes the host's files the root directory of a program, which so finds
// everything where ESXi has it. It runs in a mount namespace of its own
// (host.Host.Enter), so that nothing stays mounted.
//
//	enter DIR TOOLS PYTHON PROGRAM ARGUMENT...
//
// DIR is the host's directory, TOOLS that of this program and its links, PYTHON
// the prefix of Python's installation.
func enter(args []string) error {
	if len(args) < 5 {
		return errors.New("wrong use of enter")
	}
	dir, tools, python, argv := args[1], args[2], args[3], args[4:]
	root := filepath.Join(dir, "root")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the mounts private: %w", err)
	}
	links := filepath.Join(tools, "bin")
	binds := [][2]string{{dir, filepath.Join(root, inside)}, {links, filepath.Join(root, "bin")}, {links, filepath.Join(root, "sbin")}}
	same := []string{tools, "/usr", "/lib", "/lib64", python, "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"}
	hw, err := host.ReadHardware(filepath.Join(dir, "hardware.json"))
	if err != nil {
		return err
	}
	for _, d := range hw.Disks {
		if d.Image != "" {
			same = append(same, d.Image)
		}
	}
	for _, path := range same {
		binds = append(binds, [2]string{path, filepath.Join(root, path)})
	}
	for _, b := range binds {
		if err := bind(b[0], b[1]); err != nil {
			return err
		}
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("cannot enter %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}

// inside is where the host finds its own directory.
const inside = ".sim"

// bind shows a file or directory of the outside; a link is made again. What
// lies in another that was bound before is there already.
func bind(from, to string) error {
	fi, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // /lib64 is not everywhere
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(to); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		return nil // from the last time
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil && !errors.Is(err, unix.EROFS) {
		return err
	}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case fi.IsDir():
		err = os.MkdirAll(to, 0o755)
	default:
		err = touch(to)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot show %s at %s: %w", from, to, err)
	}
	return nil
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
