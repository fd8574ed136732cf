package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/esxid/esxid/internal/fault"
)

// PayloadFile is a file to be put into a file system.
type PayloadFile struct {
	Path string // "curtin/curtin-hooks": below "curtin", with "/", no "." or ".."
	Data []byte
}

// Target is a FAT file system at Offset of a disk, which is a file or a block
// device. File is open for reading and writing.
type Target struct {
	File   *os.File
	Offset int64
}

func (t Target) String() string { return fmt.Sprintf("%s at offset %d", t.File.Name(), t.Offset) }

// maxPayload is what can be read back. An EFI system partition has 4 to 100 MiB.
const maxPayload = maxTreeBytes

// WritePayload puts files into the FAT file system t, which has room for size
// bytes, and leaves everything else in it alone. An older /curtin goes first, so
// it can be done again. The same files on the same file system give the same
// bytes, whatever kind of file t is in.
//
// At least minFree bytes must be free afterwards; the deployment adds its own
// configuration and log. That is found out before anything is written, and the
// result is read back. The kernel never mounts the file system: mtools writes it.
func WritePayload(ctx context.Context, t Target, size int64, files []PayloadFile, minFree int64) error {
	fail := func(class fault.Class, err error) error {
		return fault.New(class, "cannot write the payload into %s: %w", t, err)
	}
	files = slices.SortedFunc(slices.Values(files), func(a, b PayloadFile) int { return strings.Compare(a.Path, b.Path) })
	dirs, err := payloadDirs(files)
	if err != nil {
		return fail(fault.Failed, err)
	}
	section := io.NewSectionReader(t.File, t.Offset, size)
	old, err := checkRoom(section, size, files, dirs, minFree)
	if err != nil {
		return fail(fault.Input, err)
	}

	m := mtools{image: t.File, offset: t.Offset}
	if old {
		if err := m.run(ctx, nil, "mdeltree", "::/"+hookDir); err != nil {
			return fmt.Errorf("cannot remove the old payload from %s: %w", t, err)
		}
	}
	for _, dir := range dirs {
		if err := m.run(ctx, nil, "mmd", "::/"+dir); err != nil {
			return fmt.Errorf("cannot write the payload into %s: %w", t, err)
		}
	}
	for _, file := range files {
		if err := m.run(ctx, file.Data, "mcopy", "-", "::/"+file.Path); err != nil {
			return fmt.Errorf("cannot write the payload into %s: %w", t, err)
		}
	}
	if err := t.File.Sync(); err != nil {
		return fmt.Errorf("cannot write the payload: %w", err)
	}
	return readBack(t, section, size, files)
}

// payloadDirs checks the paths of sorted files and returns the directories they
// need, parents first.
func payloadDirs(files []PayloadFile) ([]string, error) {
	dirs := map[string]bool{}
	seen := map[string]bool{}
	var total int
	for _, f := range files {
		if !strings.HasPrefix(f.Path, hookDir+"/") || path.Clean(f.Path) != f.Path {
			return nil, fmt.Errorf("%q is not a path below %s", f.Path, hookDir)
		}
		for _, c := range f.Path {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/", c) {
				return nil, fmt.Errorf("%q has a character that FAT or mtools could change", f.Path)
			}
		}
		key := strings.ToLower(f.Path)
		if seen[key] {
			return nil, fmt.Errorf("%q is there twice (FAT ignores case)", f.Path)
		}
		seen[key] = true
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
		if total += len(f.Data); total > maxPayload {
			return nil, fmt.Errorf("the files have more than %s", formatSize(maxPayload))
		}
	}
	if len(files) == 0 {
		return nil, errors.New("there are no files")
	}
	return slices.Sorted(maps.Keys(dirs)), nil
}

// checkRoom finds out whether the payload fits, and whether an old one is there.
func checkRoom(r io.ReaderAt, size int64, files []PayloadFile, dirs []string, minFree int64) (old bool, err error) {
	fs, err := openFAT(r, size)
	if err != nil {
		return false, err
	}
	root, err := fs.root()
	if err != nil {
		return false, err
	}
	free, err := fs.freeBytes()
	if err != nil {
		return false, err
	}
	for _, e := range root {
		if !e.is(hookDir) {
			continue
		}
		if !e.dir {
			return false, fmt.Errorf("it has a file named %s", hookDir)
		}
		t, err := fs.readTree(hookDir, e)
		if err != nil {
			return false, err
		}
		old, free = true, free+t.allocated
	}
	need := fs.payloadSize(files, dirs)
	if need+minFree > free {
		return false, fmt.Errorf("it has %s free, the payload needs %s and %s must stay free", formatSize(free), formatSize(need), formatSize(minFree))
	}
	return old, nil
}

// payloadSize returns the room that files and directories take, in whole
// clusters. Each name has a short entry and one more per 13 characters.
func (f *fat) payloadSize(files []PayloadFile, dirs []string) int64 {
	entries := map[string]int64{}
	name := func(p string) {
		entries[path.Dir(p)] += 1 + int64(len(path.Base(p))+longNameUnits-1)/longNameUnits
	}
	var need int64
	for _, file := range files {
		need += f.roundUp(int64(len(file.Data)))
		name(file.Path)
	}
	for _, dir := range dirs {
		name(dir)
	}
	for _, dir := range dirs {
		need += f.roundUp((2 + entries[dir]) * dirEntrySize) // "." and ".." too
	}
	return need
}

// readBack compares what is there now with what was to be written.
func readBack(t Target, r io.ReaderAt, size int64, files []PayloadFile) error {
	fs, err := openFAT(r, size)
	if err != nil {
		return fmt.Errorf("cannot read the payload back from %s: %w", t, err)
	}
	got, err := fs.readHookDir()
	if err != nil {
		return fmt.Errorf("cannot read the payload back from %s: %w", t, err)
	}
	if diff := comparePayload(got.files, Sums(files)); diff != "" {
		return fmt.Errorf("cannot write the payload into %s: it reads back wrong: %s", t, diff)
	}
	return nil
}

// readHookDir reads /curtin.
func (f *fat) readHookDir() (*tree, error) {
	hooks, err := f.hooks()
	if err != nil {
		return nil, err
	}
	if len(hooks) == 0 {
		return nil, fmt.Errorf("there is no directory %s", hookDir)
	}
	return f.readTree(hookDir, hooks[0])
}

// hooks returns the directories /curtin, but two of them at most: one is right
// and a second one wrong.
func (f *fat) hooks() ([]dirEntry, error) {
	root, err := f.root()
	root = slices.DeleteFunc(root, func(e dirEntry) bool { return !e.dir || !e.is(hookDir) })
	return slices.Clone(root[:min(len(root), 2)]), err
}
