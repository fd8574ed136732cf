package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/nbd"
)

// sectorSize is the unit of the partition table, in bytes. ESXi installs on
// disks with 512-byte sectors only.
const sectorSize = 512

// espNumber is the partition that gets the payload: the ESP, which deployment
// can mount and which no ESXi upgrade clears.
const espNumber = 1

// minESPFree must stay free in the ESP, in bytes: curtin puts a copy of its
// configuration and its log there at every deployment.
const minESPFree = 1 << 20

// payload is everything that goes into the ESP.
func payload(p Plan) []image.PayloadFile {
	var files []image.PayloadFile
	for _, f := range p.guestSettings().Files() {
		files = append(files, image.PayloadFile{Path: f.Path, Data: f.Data})
	}
	return files
}

func (p Plan) guestSettings() guest.Settings {
	return guest.Settings{WarnUnsupported: p.Unsupported == "warn"}
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
func (s *step) customize(ctx context.Context) (string, error) {
	disk := filepath.Join(s.dir, diskName)
	first, length, err := espRegion(disk)
	if err != nil {
		return "", err
	}
	if err := s.pristineESP(ctx, disk, first, length); err != nil {
		return "", err
	}
	access, err := s.writePayload(ctx, disk, first, length, payload(s.build.Plan))
	if err != nil {
		return "", err
	}
	if err := durable.SyncFile(disk); err != nil {
		return "", fmt.Errorf("cannot write the payload: %w", err)
	}
	return access, nil
}

func espRegion(disk string) (first, length int64, err error) {
	f, err := os.Open(disk)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read the installed disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read the installed disk: %w", err)
	}
	table, err := image.ReadTable(f, info.Size())
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read the installed disk's partition table: %w", err)
	}
	for _, p := range table.Partitions {
		if p.Number == espNumber {
			return p.First * sectorSize, (p.Last - p.First + 1) * sectorSize, nil
		}
	}
	return 0, 0, fault.New(fault.Input, "the installed disk has no partition %d", espNumber)
}

// pristineESP makes the ESP what the installer left: it saves it the first time
// and puts it back every later time, so that an interrupted or an older payload
// leaves no trace.
func (s *step) pristineESP(ctx context.Context, disk string, first, length int64) error {
	saved := filepath.Join(s.dir, espName)
	_, err := os.Stat(saved)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return image.SaveRegion(ctx, disk, first, length, saved)
	case err != nil:
		return fmt.Errorf("cannot read the saved ESP: %w", err)
	}
	return image.RestoreRegion(ctx, saved, disk, first)
}

// writePayload writes through the kernel's nbd or on the file, and says which.
func (s *step) writePayload(ctx context.Context, disk string, first, length int64, files []image.PayloadFile) (string, error) {
	access, why := s.build.Plan.Access, ""
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
		target := image.Target{Path: disk, Offset: first}
		return "direct" + why, image.WritePayload(ctx, target, length, files, minESPFree)
	}
	if err := haveRoom(disk, files); err != nil {
		return "", err
	}
	device, err := nbd.Attach(ctx, disk, nbd.Options{LockDir: s.Config.RuntimeDir})
	if err != nil {
		return "", err
	}
	err = func() error {
		node, err := device.Node(ctx, espNumber)
		if err != nil {
			return err
		}
		return image.WritePayload(ctx, image.Target{Path: node}, length, files, minESPFree)
	}()
	return "nbd " + device.Path, errors.Join(err, device.Detach())
}

// haveRoom reports a file system that is too full for writing files into the
// holes of a disk. Behind a block device that is only an input/output error.
func haveRoom(disk string, files []image.PayloadFile) error {
	need := int64(1 << 20) // the file system's own structures
	for _, f := range files {
		need += int64(len(f.Data))
	}
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		return fmt.Errorf("cannot find out how much space is free for %s: %w", disk, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fault.New(fault.CannotWrite, "cannot write the payload into %s: %d KiB are free there and %d are needed: free some space", disk, free>>10, need>>10)
	}
	return nil
}
