package tinylinux

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// builtin stands in the index for the path of a module that is part of vmlinuz.
const builtin = "builtin"

// Modules returns the files for an initramfs from which pid1.LoadModules loads
// the named modules and all they depend on. A name may be followed by
// parameters: "nbd max_part=16".
func (k *Kernel) Modules(names ...string) ([]File, error) {
	l := loader{kernel: k, done: map[string]bool{}}
	for _, name := range names {
		name, params, _ := strings.Cut(name, " ")
		if err := l.add(name, params); err != nil {
			return nil, err
		}
	}
	return append(l.files, File{Path: "modules/list", Mode: 0o644, Data: l.list.Bytes()}), nil
}

// loader collects modules in the order in which they can be loaded.
type loader struct {
	kernel *Kernel
	done   map[string]bool
	files  []File
	list   bytes.Buffer // "name.ko parameters" lines
}

func (l *loader) add(name, params string) error {
	name = strings.ReplaceAll(name, "-", "_")
	if l.done[name] {
		return nil
	}
	l.done[name] = true
	path, ok := l.kernel.modules[name]
	if !ok {
		return fmt.Errorf("kernel %s has no module %s", l.kernel.Release, name)
	}
	if path == builtin {
		return nil
	}
	data, err := readModule(path)
	if err != nil {
		return err
	}
	needs, wants, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	for _, need := range needs {
		if err := l.add(need, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, want := range wants {
		// A checksum such as crc32c is asked for by the algorithm's name.
		for _, candidate := range []string{want, want + "_generic"} {
			if l.kernel.modules[candidate] == "" {
				continue
			}
			if err := l.add(candidate, ""); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	l.files = append(l.files, File{Path: "modules/" + name + ".ko", Mode: 0o644, Data: data})
	fmt.Fprintf(&l.list, "%s.ko %s\n", name, params)
	return nil
}

// indexModules maps the names of a kernel's modules to their files. A package
// that depmod has not seen yet has no modules.dep, so dependencies come from
// the modules themselves.
func indexModules(dir string) (map[string]string, error) {
	index := map[string]string{}
	list, err := os.Open(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the kernel's module list: %w", err)
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		index[moduleName(lines.Text())] = builtin
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".ko") {
			index[moduleName(path)] = path
		}
		return err
	})
	return index, err
}

func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readModule reads a module; Debian 13 compresses them with xz.
func readModule(path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	data, err := exec.Command("xz", "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("xz -dc %s: %w", path, err)
	}
	return data, nil
}

// dependencies returns what a module says must be loaded before it (needs) and
// what it uses when it is there (wants).
func dependencies(module []byte) (needs, wants []string, err error) {
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, err
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch {
		case key == "depends" && value != "":
			needs = append(needs, strings.Split(value, ",")...)
		case key == "softdep" && strings.HasPrefix(value, "pre:"):
			pre, _, _ := strings.Cut(strings.TrimPrefix(value, "pre:"), "post:")
			wants = append(wants, strings.Fields(strings.ReplaceAll(pre, "crypto-", ""))...)
		}
	}
	return needs, wants, nil
}
