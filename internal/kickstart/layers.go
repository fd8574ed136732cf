package kickstart

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/esxid/esxid/internal/fault"
)

const (
	packagedDefault = "/usr/share/esxid/kickstart/default.cfg"
	builtInName     = "default.cfg (built in)"

	maxFile      = 256 << 10 // bytes of one file; real ones have a few KiB
	maxSource    = 1 << 20   // bytes of all layers together
	maxAdditions = 100       // fragments in one .d directory
	maxEntries   = 1000      // directory entries looked at
)

//go:embed default.cfg
var builtInDefault []byte

// Select returns the kickstart for v: the most specific of
//
//	<version>-<build>.cfg, <x.y.z>.cfg, <x.y>.cfg, <x>.cfg, default.cfg
//
// in operatorDir (9.x has four-part versions: <w.x.y.z>.cfg comes first there),
// else the packaged default, else the copy built into the program. The files
// <same name>.d/*.cfg in operatorDir are appended in the order of their names;
// default.d/ extends the packaged default too. Hidden files and other endings
// are ignored. operatorDir need not exist; "" means none.
//
// Additions for a more specific name than the chosen file's would be silently
// unused; that is an error, as are symbolic links (a change of their target
// could not be noticed), FIFOs, directories and oversized files: fault.Input.
// Files that may not be read: fault.NotPermitted.
func Select(operatorDir string, v Version) (Source, error) {
	return selectFrom(operatorDir, packagedDefault, v)
}

func selectFrom(operatorDir, packaged string, v Version) (Source, error) {
	if err := v.Validate(); err != nil {
		return Source{}, err
	}
	for _, name := range overrideNames(v) {
		if operatorDir == "" {
			break
		}
		main, err := readFile(filepath.Join(operatorDir, name+".cfg"), syscall.O_NOFOLLOW)
		if err == nil {
			return withAdditions(main, operatorDir, name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Source{}, err
		}
		if name == "default" {
			break
		}
		orphans, err := additions(operatorDir, name)
		if err != nil {
			return Source{}, err
		}
		if len(orphans) > 0 {
			return Source{}, fault.New(fault.Input, "cannot use %s: there is no %s.cfg that it could extend; create %s (a copy of %s is a good start) or move the additions to %s",
				orphans[0], name, filepath.Join(operatorDir, name+".cfg"), packagedDefault, filepath.Join(operatorDir, "default.d"))
		}
	}
	main, err := readFile(packaged, 0)
	if errors.Is(err, fs.ErrNotExist) {
		main, err = Layer{Path: builtInName, Text: builtInDefault}, nil
	}
	if err != nil {
		return Source{}, err
	}
	if operatorDir == "" {
		return Source{Layers: []Layer{main}}, nil
	}
	return withAdditions(main, operatorDir, "default")
}

// Read returns one given file. Symbolic links are followed: it is the caller's
// own path, read once, not a watched directory's.
func Read(path string) (Source, error) {
	layer, err := readFile(path, 0)
	if err != nil {
		return Source{}, err
	}
	return Source{Layers: []Layer{layer}}, nil
}

// AffectedBy tells whether creating, changing or removing path would change what
// Select returns for v: whether path is one of the names Select looks for, and
// no more specific override exists. path itself is not looked at, so it may be
// gone already.
func AffectedBy(path, operatorDir string, v Version) bool {
	if v.Validate() != nil {
		return false
	}
	path = filepath.Clean(path)
	if operatorDir == "" {
		return path == packagedDefault
	}
	operatorDir = filepath.Clean(operatorDir)
	if path == operatorDir {
		return true
	}
	for _, name := range overrideNames(v) {
		file, dir := filepath.Join(operatorDir, name+".cfg"), filepath.Join(operatorDir, name+".d")
		if path == file || path == dir || filepath.Dir(path) == dir && isAddition(filepath.Base(path)) {
			return true
		}
		if _, err := os.Lstat(file); err == nil {
			return false // this one is chosen
		}
		if name == "default" {
			break
		}
		if orphans, err := additions(operatorDir, name); len(orphans) > 0 || err != nil {
			return false // Select fails until this is repaired
		}
	}
	return path == packagedDefault
}

// overrideNames returns the names Select looks for, without ".cfg", the most
// specific one first.
func overrideNames(v Version) []string {
	var names []string
	if v.Number != "" {
		if v.Build != "" {
			names = append(names, v.Number+"-"+v.Build)
		}
		for n := v.Number; ; {
			names = append(names, n)
			dot := strings.LastIndexByte(n, '.')
			if dot < 0 {
				break
			}
			n = n[:dot]
		}
	}
	return append(names, "default")
}

// withAdditions appends the fragments in <name>.d to main.
func withAdditions(main Layer, operatorDir, name string) (Source, error) {
	src := Source{Layers: []Layer{main}}
	paths, err := additions(operatorDir, name)
	if err != nil {
		return Source{}, err
	}
	size := len(main.Text)
	for _, path := range paths {
		layer, err := readFile(path, syscall.O_NOFOLLOW)
		if err != nil {
			return Source{}, err
		}
		if size += len(layer.Text); size > maxSource {
			return Source{}, fault.New(fault.Input, "cannot use the kickstart %s with its additions: together they are larger than %d KiB; remove what is not a kickstart", main.Path, maxSource>>10)
		}
		src.Layers = append(src.Layers, layer)
	}
	return src, nil
}

// additions lists the fragments in <name>.d, sorted.
func additions(operatorDir, name string) ([]string, error) {
	dir := filepath.Join(operatorDir, name+".d")
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return nil, fault.New(fault.Input, "cannot use %s: it must be a directory that holds additions, not a file or a link", dir)
	case err != nil:
		return nil, readError(dir, err)
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, readError(dir, err)
	}
	var paths []string
	for _, e := range entries {
		if isAddition(e.Name()) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	if len(entries) > maxEntries || len(paths) > maxAdditions {
		return nil, fault.New(fault.Input, "cannot use %s: it holds more than %d additions or %d files; put them together in fewer files", dir, maxAdditions, maxEntries)
	}
	sort.Strings(paths)
	return paths, nil
}

func isAddition(name string) bool {
	return strings.HasSuffix(name, ".cfg") && !strings.HasPrefix(name, ".")
}

// readFile reads one kickstart file of bounded size. O_NONBLOCK keeps a FIFO
// without a writer from blocking the open.
func readFile(path string, flag int) (Layer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|flag, 0)
	if err != nil {
		return Layer{}, readError(path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Layer{}, readError(path, err)
	}
	if !st.Mode().IsRegular() {
		return Layer{}, fault.New(fault.Input, "cannot use the kickstart %s: it is %s; put a plain file there", path, kindOf(st.Mode()))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Layer{}, readError(path, err)
	}
	if len(text) > maxFile {
		return Layer{}, fault.New(fault.Input, "cannot use the kickstart %s: it is larger than %d KiB; a kickstart is a short text, keep binaries out of it", path, maxFile>>10)
	}
	return Layer{Path: path, Text: text}, nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	}
	return "a device"
}

// readError says what to do about a failed open or read. It keeps fs.ErrNotExist
// visible, by which Select tells "no such override" from trouble.
func readError(path string, err error) error {
	cause := err
	var pe *fs.PathError
	if errors.As(err, &pe) {
		cause = pe.Err // the path is in the message already
	}
	switch {
	case errors.Is(err, syscall.ELOOP):
		return fault.New(fault.Input, "cannot use the kickstart %s: it is a symbolic link, and a change of its target would go unnoticed; copy the file there instead", path)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.NotPermitted, "cannot read the kickstart %s: %w; the user that runs esxid must be able to read it (root:esxid, files 0640, directories 0750)", path, cause)
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Input, "cannot read the kickstart %s: %w", path, cause)
	case errors.Is(err, syscall.ENXIO):
		return fault.New(fault.Input, "cannot use the kickstart %s: it is a socket or a device; put a plain file there", path)
	}
	return fmt.Errorf("cannot read the kickstart %s: %w", path, cause)
}
