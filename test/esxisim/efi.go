package esxisim

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/esxid/esxid/test/tinylinux"
)

// efiBoot is EFIBOOT.IMG, the FAT image that UEFI firmware boots. Its loader
// reads ISO 9660 and goes on from the CD's own files, like VMware's.
func (r Release) efiBoot(ctx context.Context, dir string) ([]byte, error) {
	loader, err := r.grub(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot make the loader for UEFI: %w", err)
	}
	image := make(memory, 4<<20)
	err = WriteFAT(image, 0, FAT{Sectors: int64(len(image)) / Sector, Serial: 0x45535849}, []Module{bytesModule("EFI/BOOT/BOOTX64.EFI", loader)})
	return image, err
}

// grub links an EFI program that starts the installer from the CD.
func (r Release) grub(ctx context.Context, dir string) ([]byte, error) {
	modules, err := tinylinux.Package(ctx, "grub-efi-amd64-bin")
	if err != nil {
		return nil, err
	}
	tools, err := tinylinux.Package(ctx, "grub-common")
	if err != nil {
		return nil, err
	}
	config, out := filepath.Join(dir, "grub.cfg"), filepath.Join(dir, "grub.efi")
	text := fmt.Sprintf("search.file /%[1]s root\nset gfxpayload=keep\nlinux /k.b00 %[2]s\ninitrd /%[1]s\nboot\n", r.installerModule(), linuxOptions)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "usr/bin/grub-mkimage"), "-O", "x86_64-efi", "-d", filepath.Join(modules, "usr/lib/grub/x86_64-efi"),
		"-c", config, "-p", "/", "-o", out, "iso9660", "search_fs_file", "linux", "boot", "efi_gop")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("grub-mkimage: %w: %s", err, text)
	}
	return os.ReadFile(out)
}

// memory is an io.WriterAt of a fixed size.
type memory []byte

func (m memory) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], b), nil
}
