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
func (s *step) install(ctx context.Context) (string, error) {
	accel, err := s.ResolveAccel(ctx)
	if err != nil {
		return "", err
	}
	work := filepath.Join(s.dir, installDir)
	if err := os.RemoveAll(work); err != nil {
		return "", fmt.Errorf("cannot clear the last try: %w", err)
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return "", fmt.Errorf("cannot prepare the installation: %w", err)
	}
	defer os.RemoveAll(work)

	img, err := s.openISO(ctx)
	if err != nil {
		return "", err
	}
	defer img.Close()
	spec, err := s.installSpec(ctx, img, work)
	if err != nil {
		return "", err
	}
	spec.Accel = accel
	err = vm.Install(ctx, spec)
	if keepErr := moveEvidence(work, s.dir, err); keepErr != nil {
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
	return "accel " + accel, s.takeDisk(spec.Disk)
}

// takeDisk makes a newly installed disk the build's. The ESP that was saved of an
// earlier one must never be put onto it.
func (s *step) takeDisk(disk string) error {
	if err := os.Remove(filepath.Join(s.dir, espName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the ESP of an earlier installation: %w", err)
	}
	return durable.Rename(disk, filepath.Join(s.dir, diskName))
}

// openISO opens the ISO of the build and makes sure it still is that ISO.
func (s *step) openISO(ctx context.Context) (*iso.Image, error) {
	img, err := iso.Open(s.build.ISOFile)
	if err != nil {
		return nil, err
	}
	got, _, err := iso.Identify(ctx, img)
	if err == nil {
		// Not the whole Info: the update level of a 6.x may come from a file name.
		want := s.build.Plan.ISO
		if got.Size != want.Size || got.Version != want.Version || got.Build != want.Build || got.Profile != want.Profile {
			err = fault.New(fault.Input, "%s is not the ISO of build %s any more: remove it, then drop the original into incoming", s.build.ISOFile, s.build.ID())
		}
	}
	if err != nil {
		img.Close()
		return nil, err
	}
	return img, nil
}

// installSpec prepares everything the virtual machine needs in work.
func (s *step) installSpec(ctx context.Context, img *iso.Image, work string) (vm.Spec, error) {
	p := s.build.Plan.Profile
	patch, err := img.PatchBootConfig(iso.BootOptions{Add: p.BootOptions(), Remove: []string{"cdromBoot"}})
	if err != nil {
		return vm.Spec{}, err
	}
	medium, err := s.kickstartMedium(ctx, work)
	if err != nil {
		return vm.Spec{}, err
	}
	spec := vm.Spec{
		Dir: work, ISO: s.build.ISOFile, ISOSize: patch.Size, Kickstart: medium,
		Disk:     filepath.Join(work, diskName),
		Hardware: p.hardware(), Marker: marker(s.build.Plan), QEMU: s.Config.VM.QEMU,
		Limits: vm.Limits{Idle: s.Config.VM.IdleTimeout, Overall: s.Config.VM.OverallTimeout},
		Progress: func(v vm.Progress) {
			message := v.Phase
			if v.LastLine != "" {
				message += ": " + v.LastLine
			}
			s.event(Event{State: EventRunning, Percent: v.Percent, Done: v.Written, Message: message})
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
func (s *step) kickstartMedium(ctx context.Context, work string) (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, ksName))
	if err != nil {
		return "", fmt.Errorf("cannot read the rendered kickstart: %w", err)
	}
	path := filepath.Join(work, "kickstart.img")
	if s.build.Plan.Profile.KickstartMedium == "usb" {
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
