package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/nbd"
)

// espNumber is the partition that gets the payload: the ESP, which deployment
// can mount and which no ESXi upgrade clears.
const espNumber = 1

// minESPFree must stay free in the ESP, in bytes: curtin puts a copy of its
// configuration and its log there at every deployment.
const minESPFree = 1 << 20

// payload is everything that goes into the ESP.
func payload(s guest.Settings) []image.PayloadFile {
	var files []image.PayloadFile
	for _, f := range s.Files() {
		files = append(files, image.PayloadFile{Path: f.Path, Data: f.Data})
	}
	return files
}

func guestSettings(unsupported, vcenterCA string) guest.Settings {
	return guest.Settings{WarnUnsupported: unsupported == "warn", VCenterCA: vcenterCA}
}

// CanCustomize finds out, before an installation is worth its time, what on this
// host would keep the installed disk from being edited.
func CanCustomize(ctx context.Context, access string) error {
	if _, err := command.LookPath("mcopy"); err != nil {
		return err
	}
	if access == "nbd" {
		return nbd.Available(ctx)
	}
	return nil
}

// customize writes the payload into the ESP of the installed disk.
func (r *jobRun) customize(ctx context.Context, j *CustomizeJob) (string, error) {
	// What a killed step left attached may be this very disk.
	if err := nbd.Recover(ctx, r.lockDir); err != nil {
		r.warn(err.Error())
	}
	disk, err := r.dir.open(diskName, os.O_RDWR)
	if err != nil {
		return "", fmt.Errorf("cannot open the installed disk: %w", err)
	}
	defer disk.Close()
	first, length, err := espRegion(disk)
	if err != nil {
		return "", err
	}
	if err := r.pristineESP(ctx, disk, first, length); err != nil {
		return "", err
	}
	access, err := r.writePayload(ctx, j.Access, disk, first, length, payload(guestSettings(j.Unsupported, j.VCenterCA)))
	if err != nil {
		return "", err
	}
	if err := disk.Sync(); err != nil {
		return "", fmt.Errorf("cannot write the payload: %w", err)
	}
	return access, nil
}

func espRegion(disk *os.File) (first, length int64, err error) {
	info, err := disk.Stat()
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read the installed disk: %w", err)
	}
	table, err := image.ReadTable(disk, info.Size())
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read the installed disk's partition table: %w", err)
	}
	p, ok := table.Partition(espNumber)
	if !ok {
		return 0, 0, fault.New(fault.Input, "the installed disk has no partition %d", espNumber)
	}
	return p.Offset(), p.Size(), nil
}

// pristineESP makes the ESP what the installer left: it saves it the first time
// and puts it back every later time, so that an interrupted or an older payload
// leaves no trace.
func (r *jobRun) pristineESP(ctx context.Context, disk *os.File, first, length int64) error {
	saved, err := r.dir.open(espName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return r.dir.make(espName, 0o600, func(f *os.File) error {
			return image.SaveRegion(ctx, disk, first, length, f)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot read the saved ESP: %w", err)
	}
	defer saved.Close()
	info, err := saved.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the saved ESP: %w", err)
	}
	if info.Size() != length {
		return fault.New(fault.Input, "%s has %d bytes, the disk's ESP has %d: remove the build's directory to build anew", saved.Name(), info.Size(), length)
	}
	return image.RestoreRegion(ctx, saved, disk, first)
}

// writePayload writes through the kernel's nbd or on the file, and says which.
func (r *jobRun) writePayload(ctx context.Context, access string, disk *os.File, first, length int64, files []image.PayloadFile) (string, error) {
	why := ""
	if access != "direct" {
		if err := nbd.Available(ctx); err != nil {
			if access == "nbd" {
				return "", err
			}
			why = fmt.Sprintf(" (%v)", err)
			access = "direct"
		}
	}
	if access == "direct" {
		target := image.Target{File: disk, Offset: first}
		return "direct" + why, image.WritePayload(ctx, target, length, files, minESPFree)
	}
	if err := haveRoom(disk, files); err != nil {
		return "", err
	}
	device, err := nbd.AttachFile(ctx, disk, nbd.Options{LockDir: r.lockDir})
	if err != nil {
		return "", err
	}
	err = func() error {
		f, err := os.OpenFile(device.Path, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("cannot write the payload: %w", err)
		}
		defer f.Close()
		return image.WritePayload(ctx, image.Target{File: f, Offset: first}, length, files, minESPFree)
	}()
	return "nbd " + device.Path, errors.Join(err, device.Detach())
}

// haveRoom reports a file system that is too full for writing files into the
// holes of a disk. Behind a block device that is only an input/output error.
func haveRoom(disk *os.File, files []image.PayloadFile) error {
	need := int64(1 << 20) // the file system's own structures
	for _, f := range files {
		need += int64(len(f.Data))
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(disk.Fd()), &st); err != nil {
		return fmt.Errorf("cannot find out how much space is free for %s: %w", disk.Name(), err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fault.New(fault.CannotWrite, "cannot write the payload into %s: %d KiB are free there and %d are needed: free some space", disk.Name(), free>>10, need>>10)
	}
	return nil
}
