package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/esxid/esxid/internal/durable"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/vm"
)

// installDir is where an installation works, in its build's directory.
const installDir = ".install"

// install runs the installer in a virtual machine onto a new disk. All it makes
// is in a directory of its own until the installer has reported success.
func (r *jobRun) install(ctx context.Context, j *InstallJob) (string, error) {
	accel, err := r.resolveAccel(ctx, j.Accel)
	if err != nil {
		return "", err
	}
	work := filepath.Join(r.dir.path, installDir)
	if err := os.RemoveAll(work); err != nil {
		return "", fmt.Errorf("cannot clear the last try: %w", err)
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return "", fmt.Errorf("cannot prepare the installation: %w", err)
	}
	defer os.RemoveAll(work)

	img, err := j.openISO(ctx, r.id)
	if err != nil {
		return "", err
	}
	defer img.Close()
	spec, err := r.installSpec(ctx, j, img, work)
	if err != nil {
		return "", err
	}
	spec.Accel = accel
	err = vm.Install(ctx, spec)
	if keepErr := moveEvidence(work, r.dir.path, err); keepErr != nil {
		err = errors.Join(err, keepErr)
	}
	if err != nil {
		return "", err
	}
	if err := img.Unchanged(); err != nil {
		return "", err
	}
	// QEMU does not sync the disk; its content must be there when the record says so.
	if err := durable.SyncFile(spec.Disk); err != nil {
		return "", fmt.Errorf("cannot write the installed disk: %w", err)
	}
	return "accel " + accel, r.takeDisk(spec.Disk)
}

// takeDisk makes a newly installed disk the build's. The ESP that was saved of an
// earlier one must never be put onto it.
func (r *jobRun) takeDisk(disk string) error {
	if err := r.dir.remove(espName); err != nil {
		return fmt.Errorf("cannot remove the ESP of an earlier installation: %w", err)
	}
	return durable.Rename(disk, filepath.Join(r.dir.path, diskName))
}

// openISO opens the ISO of the build and makes sure it still is that ISO.
func (j *InstallJob) openISO(ctx context.Context, id string) (*iso.Image, error) {
	img, err := iso.Open(j.ISOFile)
	if err != nil {
		return nil, err
	}
	got, _, err := iso.Identify(ctx, img)
	if err == nil {
		// Not the whole Info: the update level of a 6.x may come from a file name.
		want := j.ISO
		if got.Size != want.Size || got.Version != want.Version || got.Build != want.Build || got.Profile != want.Profile {
			err = fault.New(fault.Input, "%s is not the ISO of build %s any more: remove it, then drop the original into incoming", j.ISOFile, id)
		}
	}
	if err != nil {
		img.Close()
		return nil, err
	}
	return img, nil
}

// installSpec prepares everything the virtual machine needs in work.
func (r *jobRun) installSpec(ctx context.Context, j *InstallJob, img *iso.Image, work string) (vm.Spec, error) {
	p := j.Profile
	patch, err := img.PatchBootConfig(iso.BootOptions{Add: p.BootOptions(), Remove: []string{"cdromBoot"}})
	if err != nil {
		return vm.Spec{}, err
	}
	medium, err := r.kickstartMedium(ctx, p.KickstartMedium, work)
	if err != nil {
		return vm.Spec{}, err
	}
	spec := vm.Spec{
		Dir: work, ISO: j.ISOFile, ISOSize: patch.Size, Kickstart: medium,
		Disk:     filepath.Join(work, diskName),
		Hardware: p.hardware(), Marker: j.Marker, QEMU: j.QEMU,
		Limits: vm.Limits{Idle: j.IdleTimeout, Overall: j.OverallTimeout},
		// The modules, which are nearly all of the ISO, are copied as they are.
		ExpectedWritten: patch.Size,
		Progress: func(v vm.Progress) {
			message := v.Phase
			if v.LastLine != "" {
				message += ": " + v.LastLine
			}
			r.event(Event{State: EventRunning, Percent: v.Percent, Done: v.Written, Message: message})
		},
	}
	for _, w := range patch.Writes {
		spec.ISOWrites = append(spec.ISOWrites, vm.Write{Offset: w.Offset, Data: w.Data})
	}
	return spec, nil
}

func (p Profile) hardware() vm.Hardware {
	cdBus := "ide" // where the installer scans for a kickstart
	if p.Machine == "q35" {
		cdBus = "ahci" // it has no other
	}
	return vm.Hardware{
		Machine: p.Machine, NIC: p.NIC, MAC: p.MAC, DiskBus: p.DiskBus, CDBus: cdBus, KickstartMedium: p.KickstartMedium,
		MemoryMiB: p.MemoryMiB, CPUs: p.CPUs, CPUModel: p.CPUModel, DiskSize: DiskSize,
	}
}

// kickstartMedium puts the kickstart on the kind of medium the version finds.
func (r *jobRun) kickstartMedium(ctx context.Context, kind, work string) (string, error) {
	text, err := os.ReadFile(filepath.Join(r.dir.path, ksName))
	if err != nil {
		return "", fmt.Errorf("cannot read the rendered kickstart: %w", err)
	}
	path := filepath.Join(work, "kickstart.img")
	if kind == "usb" {
		return path, image.NewStick(ctx, path, KickstartName, text)
	}
	medium, err := iso.Single("ESXID", KickstartName, text)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, medium, 0o600); err != nil {
		return "", fmt.Errorf("cannot write the kickstart's medium: %w", err)
	}
	return path, nil
}

// moveEvidence moves what tells how an installation went (the log, and the last
// screen of a failure) from one directory to another, and lets the error of a
// failed installation point there.
func moveEvidence(from, to string, failure error) error {
	for _, name := range []string{consoleName, screenName} {
		err := os.Rename(filepath.Join(from, name), filepath.Join(to, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Remove(filepath.Join(to, name)) // of an earlier try
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot keep %s: %w", name, err)
		}
	}
	var installErr *vm.InstallError
	if errors.As(failure, &installErr) {
		installErr.Console = filepath.Join(to, consoleName)
		if installErr.Screen != "" {
			installErr.Screen = filepath.Join(to, screenName)
		}
	}
	return nil
}

// SaveEvidence moves what tells why an installation failed from the build's
// directory to dir, which is made, and lets failure point there.
func (s *Store) SaveEvidence(b *Build, dir string, failure error) error {
	var installErr *vm.InstallError
	if !errors.As(failure, &installErr) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("cannot keep the installer's log: %w", err)
	}
	return moveEvidence(s.Dir(b.ID()), dir, failure)
}
