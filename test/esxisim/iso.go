package esxisim

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/esxid/esxid/test/tinylinux"
)

// madeAt is the date of everything on the ISOs, so that the same options give
// the same bytes.
var madeAt = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// BuildISO writes the installer ISO of a release.
func BuildISO(ctx context.Context, o Options, out string) error {
	r, err := NewRelease(o)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(out), ".esxisim-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	tree := filepath.Join(tmp, "tree")
	if err := r.writeTree(ctx, o, tree); err != nil {
		return fmt.Errorf("cannot make the files of %s: %w", r.Profile, err)
	}
	image := filepath.Join(tmp, "iso")
	if err := r.master(ctx, tree, image); err != nil {
		return err
	}
	return os.Rename(image, out)
}

// writeTree writes the files of the ISO below dir.
func (r Release) writeTree(ctx context.Context, o Options, dir string) error {
	metadata, err := r.metadata()
	if err != nil {
		return err
	}
	files := r.efiFiles()
	for name, data := range metadata {
		files = append(files, bytesModule(name, data))
	}
	kernel, err := tinylinux.Find(ctx)
	if err != nil {
		return err
	}
	linux, err := os.ReadFile(kernel.Vmlinuz)
	if err != nil {
		return err
	}
	initramfs, err := r.initramfs(ctx, kernel, o)
	if err != nil {
		return err
	}
	for _, m := range r.Modules() {
		switch m.Name {
		case "k.b00":
			m = bytesModule(m.Name, linux)
		case r.installerModule():
			m = bytesModule(m.Name, initramfs)
		}
		files = append(files, m)
	}
	efi, err := r.efiBoot(ctx, filepath.Dir(dir))
	if err != nil {
		return err
	}
	files = append(files, bytesModule("EFIBOOT.IMG", efi),
		r.randomFile("FATBOOTSECTOR", 512), r.randomFile("LDLINUX.SYS", 32<<10), r.randomFile("SAFEBOOT.C32", 72<<10), r.randomFile("UPGRADE/EXTLINUX", 64<<10))
	for name, path := range map[string]string{
		"ISOLINUX.BIN":       isolinuxDir + "/isolinux.bin",
		"LDLINUX.C32":        syslinuxDir + "/modules/bios/ldlinux.c32",
		"MBOOT.C32":          syslinuxDir + "/modules/bios/mboot.c32",
		"MENU.C32":           syslinuxDir + "/modules/bios/menu.c32",
		"UPGRADE/MBR.BIN":    syslinuxDir + "/mbr/mbr.bin",
		"UPGRADE/GPTMBR.BIN": gptBootCode,
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%w (apt install isolinux syslinux-common)", err)
		}
		files = append(files, bytesModule(name, data))
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, strings.ToUpper(f.Name)), f); err != nil {
			return err
		}
	}
	for _, d := range []string{"EFI/BOOT", "EFI", "UPGRADE", "."} {
		if err := os.Chtimes(filepath.Join(dir, d), madeAt, madeAt); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, m Module) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	r, err := m.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	return errors.Join(err, file.Close(), os.Chtimes(path, madeAt, madeAt))
}

// master makes plain ISO 9660, without Joliet and Rock Ridge, names in upper
// case but not strictly level 1, and two El Torito images.
func (r Release) master(ctx context.Context, tree, out string) error {
	cmd := exec.CommandContext(ctx, "xorriso", "-as", "mkisofs", "-quiet", "--norock",
		"-iso-level", "3", "-full-iso9660-filenames", "-relaxed-filenames", "-allow-leading-dots", "-no-pad",
		"-V", r.VolumeID(), "-A", "ESXIMAGE", "-sysid", "", "-p", "", "-publisher", "", "-volset", "",
		"-b", "ISOLINUX.BIN", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--boot-catalog-hide",
		"-eltorito-alt-boot", "-e", "EFIBOOT.IMG", "-no-emul-boot",
		"-o", out, tree)
	cmd.Env = append(os.Environ(), "LC_ALL=C", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", madeAt.Unix()))
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("xorriso: %w: %s", err, bytes.TrimSpace(text))
	}
	return nil
}

// drivers are the kernel modules for the hardware that every release supports:
// disks on AHCI, NVMe, PVSCSI and USB, optical units, and NICs.
var drivers = []string{
	"ata_piix", "ahci", "sd_mod", "sr_mod", "isofs", "nvme", "vmw_pvscsi", "uhci_hcd", "ehci_pci", "xhci_pci",
	"usb_storage delay_use=0", "vfat", "nls_cp437", "nls_ascii", "e1000e", "vmxnet3",
}

// initramfs is the installer module: a Linux initramfs with the installer as
// /init. What the release has no driver for is not in it.
func (r Release) initramfs(ctx context.Context, kernel *tinylinux.Kernel, o Options) ([]byte, error) {
	modules := drivers
	if !r.AtLeast(7) {
		modules = append([]string{"e1000"}, drivers...)
	}
	files, err := kernel.Modules(modules...)
	if err != nil {
		return nil, err
	}
	installer, err := tinylinux.Build(ctx, "./test/esxisim/installer")
	if err != nil {
		return nil, err
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("%w (apt install busybox-static)", err)
	}
	options, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	files = append(files,
		tinylinux.File{Path: "init", Mode: 0o755, Data: installer},
		tinylinux.File{Path: "bin/busybox", Mode: 0o755, Data: busybox},
		tinylinux.File{Path: "options.json", Mode: 0o644, Data: options},
	)
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := tinylinux.WriteInitramfs(z, files); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
