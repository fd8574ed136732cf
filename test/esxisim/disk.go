package esxisim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
)

// Installation is what an installer run leaves on a disk.
type Installation struct {
	Release    Release
	Partitions []Partition
	Modules    []Module // of the ISO, all that boot.cfg names
	EFI        []Module // of the ISO's EFI/BOOT, with that path
	BootCode   []byte   // for the MBR
	RootHash   string   // crypt(3)
	FirstBoot  []string // bodies of %firstboot
	MAC        string   // of the NIC that vmk0 was made on
	Random     io.Reader
	// Progress, if set, is called before each file is copied.
	Progress func(name string, done, total int64)
}

// DiskOptions describe a disk for WriteDisk.
type DiskOptions struct {
	Options
	LayoutOptions
	Size      int64  // bytes; default 32 GiB
	RootHash  string // default: a locked account
	FirstBoot []string
}

// WriteDisk makes the raw, sparse file of a disk on which the release has been
// installed. The same options give the same bytes.
func WriteDisk(path string, o DiskOptions) error {
	r, err := NewRelease(o.Options)
	if err != nil {
		return err
	}
	if o.Size == 0 {
		o.Size = 32 << 30
	}
	parts, err := r.Layout(o.Size, o.LayoutOptions)
	if err != nil {
		return err
	}
	bootCode, err := os.ReadFile(gptBootCode)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(o.Size); err != nil {
		return err
	}
	if o.RootHash == "" {
		o.RootHash = "*"
	}
	i := Installation{
		Release: r, Partitions: parts, Modules: r.Modules(), EFI: r.efiFiles(), BootCode: bootCode,
		RootHash: o.RootHash, FirstBoot: o.FirstBoot, MAC: "52:54:00:12:34:56",
		Random: rand.NewChaCha8(sha256.Sum256([]byte(r.Profile))),
	}
	if err := i.Write(file, o.Size); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return file.Close()
}

// Write puts the installation on a disk of size bytes.
func (i *Installation) Write(disk io.WriterAt, size int64) error {
	if err := writeTable(disk, size, i.Partitions, i.BootCode, i.Random); err != nil {
		return err
	}
	for _, p := range i.Partitions {
		if err := i.writePartition(disk, p); err != nil {
			return fmt.Errorf("partition %d: %w", p.Number, err)
		}
	}
	return nil
}

func (i *Installation) writePartition(disk io.WriterAt, p Partition) error {
	offset := p.First * Sector
	switch p.Type {
	case TypeOSData:
		return i.writeVMFS(disk, offset, "OSDATA", i.pick("tools.t00"))
	case TypeVMFS:
		return i.writeVMFS(disk, offset, "datastore1", nil)
	case TypeDump:
		_, err := disk.WriteAt(make([]byte, 64<<10), offset) // an empty slot table
		return err
	}
	fat, files, err := i.fatContents(p.Number)
	if err != nil {
		return err
	}
	fat.Sectors, fat.Hidden = p.Last-p.First+1, p.First
	id := make([]byte, 20)
	if _, err := io.ReadFull(i.Random, id); err != nil {
		return err
	}
	fat.Serial = binary.LittleEndian.Uint32(id[16:])
	if p.Type != TypeESP {
		fat.Marker = id[:16]
	}
	return WriteFAT(disk, offset, fat, files)
}

// fatContents returns what is in the FAT partition of that number.
func (i *Installation) fatContents(number int) (FAT, []Module, error) {
	r := i.Release
	labels := map[int]string{1: "ESXI", 5: "BOOTBANK1", 6: "BOOTBANK2"}
	if !r.AtLeast(7) {
		labels = map[int]string{1: "ESXI", 5: "HYPERVISOR1", 6: "HYPERVISOR2", 8: "HYPERVISOR3"}
	}
	fat := FAT{Label: labels[number]}
	switch number {
	case 1:
		files := []Module{
			bytesModule("syslinux.cfg", []byte("default safeboot.c32\n")),
			r.randomFile("safeboot.c32", 72<<10), r.randomFile("mboot.c32", 76<<10),
		}
		return fat, append(files, i.EFI...), nil
	case 5:
		files, err := i.bank()
		return fat, files, err
	case 6:
		return fat, []Module{bytesModule("boot.cfg", []byte(r.bankBootConfig(false)))}, nil
	case 8:
		return fat, under("packages/"+strings.ReplaceAll(r.Version, ".", "_")+"/vmtools/", i.pick("tools.t00")), nil
	case 2:
		log := bytesModule("log/vmkernel.log", fmt.Appendf(nil, "installed %s build %s\n", r.Version, r.Build))
		return fat, []Module{log, bytesModule("core/readme", nil)}, nil
	}
	return fat, nil, fmt.Errorf("it has no known contents")
}

// bank is the content of /bootbank: the modules, boot.cfg, and the state that
// is unpacked over them at every boot.
func (i *Installation) bank() ([]Module, error) {
	state, err := i.state()
	if err != nil {
		return nil, err
	}
	extra := []Module{bytesModule("state.tgz", state)}
	if len(i.FirstBoot) > 0 {
		scripts, err := i.oneTime()
		if err != nil {
			return nil, err
		}
		extra = append(extra, bytesModule("onetime.tgz", scripts))
	}
	var names []string
	for _, m := range extra {
		names = append(names, m.Name)
	}
	bootConfig := bytesModule("boot.cfg", []byte(i.Release.bankBootConfig(true, names...)))
	return append(append(i.watched(i.pick(append(i.Release.bankModules(), "b.b00")...)), extra...), bootConfig), nil
}

// pick returns the modules with these names.
func (i *Installation) pick(names ...string) []Module {
	var picked []Module
	for _, m := range i.Modules {
		for _, name := range names {
			if m.Name == name {
				picked = append(picked, m)
			}
		}
	}
	return picked
}

// watched reports the progress of copying the modules.
func (i *Installation) watched(modules []Module) []Module {
	if i.Progress == nil {
		return modules
	}
	var done, total int64
	for _, m := range modules {
		total += m.Size
	}
	watched := make([]Module, len(modules))
	for n, m := range modules {
		watched[n] = m
		watched[n].Open = func() (io.ReadCloser, error) {
			i.Progress(m.Name, done, total)
			done += m.Size
			return m.Open()
		}
	}
	return watched
}

func under(dir string, files []Module) []Module {
	for n := range files {
		files[n].Name = dir + files[n].Name
	}
	return files
}

// writeVMFS writes what tells a VMFS volume from an empty partition: the
// headers of its volume manager and of the file system, and the files' data.
func (i *Installation) writeVMFS(disk io.WriterAt, offset int64, label string, files []Module) error {
	id := make([]byte, 16)
	if _, err := io.ReadFull(i.Random, id); err != nil {
		return err
	}
	volume := append([]byte("\x0d\xd0\x01\xc0"), id...)
	volume = append(volume, make([]byte, 4096-len(volume))...)
	super := append([]byte("\x5e\xf1\xab\x2f"), id...)
	super = append(super, label...)
	super = append(super, make([]byte, 4096-len(super))...)
	at := offset + 64<<20
	for _, w := range []struct {
		at   int64
		data []byte
	}{{offset + 1<<20, volume}, {offset + 19<<20, super}} {
		if _, err := disk.WriteAt(w.data, w.at); err != nil {
			return err
		}
	}
	for _, f := range files {
		r, err := f.Open()
		if err != nil {
			return err
		}
		n, err := io.Copy(io.NewOffsetWriter(disk, at), r)
		r.Close()
		if err != nil {
			return err
		}
		at += (n + 1<<20 - 1) &^ (1<<20 - 1)
	}
	return nil
}
