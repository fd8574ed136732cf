package weasel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/esxid/esxid/test/tinylinux/pid1"
	"golang.org/x/sys/unix"
)

// How long the installer looks for a CD and for a USB stick.
const (
	cdPatience  = 2 * time.Second
	usbPatience = 10 * time.Second
)

// findKickstart returns the text of the file that ks= names.
func (in *Installer) findKickstart(where string) ([]byte, error) {
	scheme, path, _ := strings.Cut(where, ":")
	if in.Options.Has("cdromBoot") && scheme != "file" {
		// The boot CD is then treated in its own way, and nothing is searched.
		return nil, fmt.Errorf("cannot find kickstart file on cd-rom with path -- %s", path)
	}
	switch scheme {
	case "cdrom":
		return in.searchCD(path)
	case "usb":
		path = "/" + strings.TrimLeft(path, "/")
		if path == "/" {
			path = "/ks.cfg"
		}
		return in.searchUSB(path)
	case "file":
		text, err := os.ReadFile("/" + strings.TrimLeft(path, "/"))
		if err != nil {
			return nil, fmt.Errorf("cannot find kickstart file: %w", err)
		}
		return text, nil
	}
	return nil, fmt.Errorf("cannot fetch the kickstart %s: the network is not up", where)
}

// searchCD looks on IDE units only: others are not there yet when the search
// is made. 9.x has no IDE any more.
func (in *Installer) searchCD(path string) ([]byte, error) {
	for deadline := time.Now().Add(cdPatience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		units, err := opticalUnits(in.Sys)
		if err != nil {
			return nil, err
		}
		for node, driver := range units {
			if driver != "vmkata" || in.Release.AtLeast(9) {
				continue
			}
			text, err := readFrom("iso9660", node, CDOptions, func(root string) ([]byte, error) {
				return ReadExact(root, path)
			})
			if err == nil {
				return text, nil
			}
			in.Log.Printf("kickstart: not on cd-rom %s: %v", node, err)
		}
	}
	return nil, fmt.Errorf("cannot find kickstart file on cd-rom with path -- %s", path)
}

// searchUSB looks into the FAT partitions of USB sticks, whose names know no case.
func (in *Installer) searchUSB(path string) ([]byte, error) {
	for deadline := time.Now().Add(usbPatience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		partitions, err := usbPartitions(in.Sys)
		if err != nil {
			return nil, err
		}
		for _, node := range partitions {
			text, err := readFrom("vfat", node, "", func(root string) ([]byte, error) {
				return os.ReadFile(filepath.Join(root, path))
			})
			if err == nil {
				return text, nil
			}
		}
	}
	return nil, fmt.Errorf("cannot find kickstart file on usb with path -- %s", path)
}

// CDOptions show the names of a CD as they are stored: the real driver knows
// neither Rock Ridge nor Joliet.
const CDOptions = "map=off,norock,nojoliet"

// ReadExact reads a file of a CD mounted with CDOptions. The name must be
// stored exactly like this, version number aside.
func ReadExact(root, path string) ([]byte, error) {
	dir := root
	names := strings.Split(strings.Trim(path, "/"), "/")
	for _, name := range names {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(entries, func(e os.DirEntry) bool { return strings.TrimSuffix(e.Name(), ";1") == name })
		if i < 0 {
			return nil, fmt.Errorf("%s: %w", path, os.ErrNotExist)
		}
		dir = filepath.Join(dir, entries[i].Name())
	}
	return os.ReadFile(dir)
}

// readFrom mounts a device, reads from it and unmounts it.
func readFrom(kind, node, options string, read func(root string) ([]byte, error)) (data []byte, err error) {
	root := "/mnt/" + node
	if err := pid1.Mount(kind, "/dev/"+node, root, unix.MS_RDONLY, options); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Unmount(root, 0)) }()
	return read(root)
}
