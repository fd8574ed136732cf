package tinylinux

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// metaPackage depends on the newest generic kernel. The "cloud" flavour has no
// drivers for what QEMU emulates as real hardware (e1000, AHCI, USB, CD).
const metaPackage = "linux-image-amd64"

// Kernel is an unpacked Debian kernel.
type Kernel struct {
	Vmlinuz string // path of the bzImage, which is also an EFI program
	Vmlinux string // the same as an ELF file, which QEMU's -kernel starts 3 s sooner under TCG
	Release string // as uname -r prints it

	modules map[string]string // name with underscores: path
}

// Find returns Debian's kernel from the cache, and puts it there first when it
// is missing: 70 MB to download, 400 MB unpacked. Any number of processes may
// do this at once; the first to finish wins.
func Find(ctx context.Context) (*Kernel, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if k, err := newest(cache); err != nil || k != nil {
		return k, err
	}
	if err := install(ctx, cache, kernelPackage, unpackImage); err != nil {
		return nil, fmt.Errorf("cannot get Debian's kernel: %w", err)
	}
	k, err := newest(cache)
	if k == nil && err == nil {
		err = fmt.Errorf("cannot find the kernel just put into %s", cache)
	}
	return k, err
}

// newest opens the latest kernel in the cache; nil if there is none.
func newest(cache string) (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(cache, "linux-image-*", "boot", "vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return nil, err
	}
	var image string
	var latest int64
	for _, path := range images {
		fi, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if t := fi.ModTime().UnixNano(); image == "" || t > latest {
			image, latest = path, t
		}
	}
	k := &Kernel{Vmlinuz: image, Vmlinux: image, Release: strings.TrimPrefix(filepath.Base(image), "vmlinuz-")}
	if elf := filepath.Join(filepath.Dir(image), "vmlinux-"+k.Release); isFile(elf) {
		k.Vmlinux = elf
	}
	k.modules, err = indexModules(filepath.Join(filepath.Dir(filepath.Dir(image)), "lib", "modules", k.Release))
	return k, err
}

// kernelPackage resolves the meta package.
func kernelPackage(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "apt-cache", "depends", "--important", metaPackage)
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(out))
	at := slices.Index(words, "Depends:")
	if at < 0 || at+1 == len(words) {
		return "", fmt.Errorf("%s depends on no kernel", metaPackage)
	}
	return words[at+1], nil
}

// unpackImage writes the ELF file that is inside a bzImage beside it. The
// bzImage's header says where the compressed kernel lies, counted from the end
// of the real-mode sectors (Documentation/arch/x86/boot.rst, payload_offset).
// A kernel that is not compressed with xz is left alone.
func unpackImage(ctx context.Context, root string) error {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return fmt.Errorf("the kernel package holds %d kernels, want one", len(images))
	}
	image, err := os.ReadFile(images[0])
	if err != nil {
		return err
	}
	if len(image) < 0x250 {
		return fmt.Errorf("%s is no kernel", images[0])
	}
	start := (int64(image[0x1f1])+1)*512 + int64(binary.LittleEndian.Uint32(image[0x248:]))
	payload := io.NewSectionReader(bytes.NewReader(image), start, int64(binary.LittleEndian.Uint32(image[0x24c:])))
	magic := make([]byte, 6)
	if _, err := payload.ReadAt(magic, 0); err != nil || string(magic) != "\xfd7zXZ\x00" {
		return err
	}
	out, err := os.Create(filepath.Join(root, "boot", strings.Replace(filepath.Base(images[0]), "vmlinuz", "vmlinux", 1)))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "xz", "-dc", "--single-stream") // the kernel's size follows the stream
	cmd.Stdin, cmd.Stdout = payload, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("xz -dc: %w", err)
	}
	return out.Close()
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}
