package iso

import (
	"bytes"
	"slices"
	"strings"
)

// zipMagic begins a ZIP archive that has files in it.
const zipMagic = "PK\x03\x04"

const imageZip = "UPGRADE/ESXIMAGE.ZIP"

var (
	// neededFiles are needed to start the installer and by the installer.
	neededFiles = []string{
		"ISOLINUX.BIN", "ISOLINUX.CFG", "MBOOT.C32", "EFIBOOT.IMG", "IMGDB.TGZ", "IMGPAYLD.TGZ", imageZip,
	}
	// upgradeFiles are only used for upgrades.
	upgradeFiles = []string{
		"UPGRADE/METADATA.ZIP", "UPGRADE/PRECHECK.PY", "UPGRADE/PREP.PY", "UPGRADE/EXTLINUX", "UPGRADE/GPTMBR.BIN", "UPGRADE/MBR.BIN",
	}
	// almostEmpty modules are gzip files with next to nothing in them.
	almostEmpty = []string{"JUMPSTRT.GZ", "USEROPTS.GZ", "FEATURES.GZ"}
)

// files checks that what the installer is made of is there.
func (in *inspection) files() error {
	problems := in.problems
	for _, file := range neededFiles {
		problems = append(problems, in.img.problem(file))
	}
	if !in.img.hasInstallerModule() {
		problems = append(problems, "/WEASELIN.* is missing")
	}
	if major, _, _ := strings.Cut(in.info.Version, "."); major != "5" && major != "6" {
		problems = append(problems, in.img.problem("ESXUPDT.V00"))
	}
	problems = slices.DeleteFunc(problems, func(p string) bool { return p == "" })
	slices.Sort(problems)
	if problems = slices.Compact(problems); len(problems) > 0 {
		const most = 8
		shown := strings.Join(problems[:min(most, len(problems))], ", ")
		if len(problems) > most {
			shown += ", ..."
		}
		return in.refuse("it is not a complete ESXi installer: %s: download it again", shown)
	}
	for _, file := range upgradeFiles {
		if problem := in.img.problem(file); problem != "" {
			in.warn(problem + ": it is no ISO as VMware ships it")
		}
	}
	return in.zip()
}

func (in *inspection) zip() error {
	n, err := in.img.lookup(imageZip)
	if err != nil {
		return err
	}
	head, err := in.img.read(n.offset(), min(n.size, int64(len(zipMagic))))
	if err != nil {
		return err
	}
	if !bytes.Equal(head, []byte(zipMagic)) {
		return in.refuse("/%s is not a ZIP archive: download it again", imageZip)
	}
	return nil
}

// bootImages checks that the El Torito catalog starts the loaders.
func (in *inspection) bootImages() error {
	if len(in.img.boot) == 0 {
		return in.refuse("it is not bootable: it has no El Torito boot catalog")
	}
	for _, loader := range []struct{ file, firmware string }{{"ISOLINUX.BIN", "BIOS"}, {"EFIBOOT.IMG", "UEFI"}} {
		n, err := in.img.lookup(loader.file)
		if err != nil {
			return err
		}
		if !slices.Contains(in.img.boot, n.lba) {
			in.warn("the boot catalog does not start " + loader.file + ": the ISO does not boot with " + loader.firmware)
		}
	}
	return nil
}

// has tells whether there is something at path.
func (img *Image) has(path string) bool {
	_, err := img.lookup(path)
	return err == nil
}

// problem returns what is wrong with a file that must be there and have
// content, "" if nothing is.
func (img *Image) problem(file string) string {
	n, err := img.lookup(file)
	switch {
	case err != nil || n.dir:
		return "/" + file + " is missing"
	case n.size == 0 && !slices.Contains(almostEmpty, key(n.name)):
		return "/" + file + " is empty"
	}
	return ""
}

// bootFile returns what is wrong with a kernel or module that boot.cfg names. A
// relative path is looked for below prefix or, without one, beside boot.cfg in
// dir and in the root.
func (img *Image) bootFile(prefix, dir, name string) string {
	name = printable(name)
	relative := strings.TrimLeft(name, "/")
	places := []string{dir + "/" + relative, relative}
	switch {
	case relative != name:
		places = []string{relative}
	case prefix != "":
		places = []string{strings.Trim(printable(prefix), "/") + "/" + relative}
	}
	problem := ""
	for _, place := range places {
		if problem = img.problem(strings.TrimPrefix(place, "./")); problem == "" {
			break
		}
	}
	return problem
}

// hasInstallerModule tells whether the module with weasel, the installer, is
// there. Its extension differs between releases.
func (img *Image) hasInstallerModule() bool {
	for name, n := range img.root.children {
		if strings.HasPrefix(name, "WEASELIN.") && !n.dir && n.size > 0 {
			return true
		}
	}
	return false
}
