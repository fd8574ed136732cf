package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/command"
	"github.com/esxid/esxid/internal/fault"
)

// bootSector is a guest that says it runs, by ending QEMU through the device
// isa-debug-exit with a status that QEMU never ends with by itself:
//
//	7c00  B0 15   mov al, 0x15
//	7c02  E6 F4   out 0xf4, al      ; QEMU exits with (0x15 << 1) | 1 = 43
//	7c04  F4      hlt
//	7c05  EB FD   jmp 0x7c04
//	7dfe  55 AA   boot signature
var bootSector = func() (b [512]byte) {
	copy(b[:], []byte{0xb0, 0x15, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd})
	b[510], b[511] = 0x55, 0xaa
	return b
}()

const (
	bootSectorExit = 0x15<<1 | 1
	// Under KVM the guest is done in a tenth of a second, under TCG on a busy
	// machine in about one.
	proofLimit = 10 * time.Second
	kvmDevice  = "/dev/kvm"
)

// Resolve turns the configured accelerator, "kvm", "tcg" or "auto", into the one
// to use with the program qemu ("": qemu-system-x86_64). "kvm" is only returned
// after a guest has really executed code with it: a /dev/kvm that exists proves
// little in containers and nested machines.
// "auto" falls back to "tcg" and why then says what is wrong with KVM; "kvm" is
// an error then, with advice.
func Resolve(ctx context.Context, qemu, accel string) (resolved, why string, err error) {
	return resolve(ctx, cmp.Or(qemu, defaultQEMU), accel, kvmDevice, proofLimit)
}

func resolve(ctx context.Context, qemu, accel, device string, limit time.Duration) (resolved, why string, err error) {
	if accel != "kvm" && accel != "tcg" && accel != "auto" {
		return "", "", fault.New(fault.Config, "accelerator %q is none of kvm, tcg, auto", accel)
	}
	if _, err := command.LookPath(qemu); err != nil {
		return "", "", err
	}
	if accel == "tcg" {
		return "tcg", "", nil
	}
	problem := openKVM(device)
	if problem == nil {
		problem = runGuest(ctx, qemu, "kvm", limit)
	}
	switch {
	case problem == nil:
		return "kvm", "", nil
	case ctx.Err() != nil:
		return "", "", fmt.Errorf("cannot test KVM: %w", context.Cause(ctx))
	case accel == "auto":
		return "tcg", problem.Error() + "; using TCG, which is many times slower", nil
	}
	class := fault.Unavailable
	if errors.Is(problem, fs.ErrPermission) {
		class = fault.NotPermitted
	}
	return "", "", fault.New(class, "%w; or do without KVM, many times slower: --accel tcg, or accel = \"tcg\" in the section [vm]", problem)
}

// openKVM reports a device that is not there or not ours to use, with advice.
func openKVM(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot use KVM: there is no %s: switch virtualization on in the firmware, or nested virtualization on this machine's host, and load the module: modprobe kvm_intel, or kvm_amd", device)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot use KVM: %w: add the user to its group: usermod -aG kvm USER, and log in again", err)
	}
	return fmt.Errorf("cannot use KVM: %w", err)
}

// runGuest proves that QEMU executes a guest's code with accel.
func runGuest(ctx context.Context, qemu, accel string, limit time.Duration) error {
	disk, err := bootSectorFile()
	if err != nil {
		return fmt.Errorf("cannot test the accelerator %s: %w", accel, err)
	}
	defer disk.Close()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p, err := command.Start(limited, command.Cmd{
		Name: qemu,
		Args: []string{
			"-nodefaults", "-no-user-config", "-display", "none",
			"-machine", "pc", "-accel", accel, "-cpu", cpu(Spec{Accel: accel}), "-m", "size=16M",
			"-action", "reboot=shutdown",
			"-device", "isa-debug-exit,iobase=0xf4,iosize=1",
			"-drive", "if=ide,format=raw,file=/proc/self/fd/3",
		},
		ExtraFiles: []*os.File{disk},
	})
	if err != nil {
		return err
	}
	err = p.Wait()
	name := strings.ToUpper(accel)
	var ended *command.Error
	switch {
	case errors.As(err, &ended) && ended.ExitCode() == bootSectorExit:
		return nil
	case limited.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("cannot use %s: a guest executed nothing within %v: %s", name, limit, p.Stderr())
	case err == nil:
		return fmt.Errorf("cannot use %s: a guest ended without executing its code: %s", name, p.Stderr())
	}
	return fmt.Errorf("cannot use %s: it starts no guest: %w", name, err)
}

// bootSectorFile is the boot sector as a file that is gone when it is closed.
func bootSectorFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("esxid-boot-sector", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "esxid-boot-sector")
	if _, err := f.Write(bootSector[:]); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
