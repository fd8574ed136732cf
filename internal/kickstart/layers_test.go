package kickstart

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

// missing is a path at which nothing can be.
const missing = "/proc/missing"

// tree writes files below a new directory and returns it. A name that ends in /
// is a directory.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		write(t, filepath.Join(dir, name), strings.HasSuffix(name, "/"))
	}
	return dir
}

// write makes an empty directory, or a file that contains its own name.
func write(t *testing.T, path string, dir bool) {
	t.Helper()
	parent := filepath.Dir(path)
	if dir {
		parent = path
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	if !dir {
		if err := os.WriteFile(path, []byte("# "+filepath.Base(path)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// paths lists the layers of src, relative to dir.
func paths(dir string, src Source) string {
	var names []string
	for _, layer := range src.Layers {
		names = append(names, strings.TrimPrefix(layer.Path, dir+"/"))
	}
	return strings.Join(names, " ")
}

func TestSelect(t *testing.T) {
	v8, v9 := Version{"8.0.3", "24677879"}, Version{"9.0.0.0", "24755229"}
	all := []string{"8.0.3-24677879.cfg", "8.0.3.cfg", "8.0.cfg", "8.cfg", "default.cfg"}
	for _, test := range []struct {
		name  string
		files []string
		v     Version
		want  string
	}{
		{"build", all, v8, "8.0.3-24677879.cfg"},
		{"x.y.z", all[1:], v8, "8.0.3.cfg"},
		{"x.y", all[2:], v8, "8.0.cfg"},
		{"x", all[3:], v8, "8.cfg"},
		{"default", all[4:], v8, "default.cfg"},
		{"none", nil, v8, "packaged"},
		{"another build", all[:2], Version{"8.0.3", "1"}, "8.0.3.cfg"},
		{"another version", all[:4], Version{"6.7.0", "8169922"}, "packaged"},
		{"no build", all, Version{"8.0.3", ""}, "8.0.3.cfg"},
		{"no version", all, Version{}, "default.cfg"},
		{"short version", all, Version{"8.0", ""}, "8.0.cfg"},
		{"9 four parts", []string{"9.0.0.0.cfg", "9.0.0.cfg"}, v9, "9.0.0.0.cfg"},
		{"9 three parts", []string{"9.0.0.cfg", "9.0.cfg"}, v9, "9.0.0.cfg"},
		{"9 build", []string{"9.0.0.0-24755229.cfg", "9.0.cfg"}, v9, "9.0.0.0-24755229.cfg"},
		{"not a prefix of digits", []string{"8.cfg"}, Version{"80.1", ""}, "packaged"},
		{"additions in order", []string{"8.0.cfg", "8.0.d/20-b.cfg", "8.0.d/10-a.cfg", "8.0.d/9.cfg"}, v8, "8.0.cfg 8.0.d/10-a.cfg 8.0.d/20-b.cfg 8.0.d/9.cfg"},
		{"additions, other files", []string{"8.0.cfg", "8.0.d/a.cfg", "8.0.d/.b.cfg", "8.0.d/c.cfg~", "8.0.d/README", "8.0.d/d.cfg.bak"}, v8, "8.0.cfg 8.0.d/a.cfg"},
		{"additions of a less specific name", []string{"8.0.cfg", "8.d/a.cfg", "default.d/b.cfg"}, v8, "8.0.cfg"},
		{"additions to the packaged default", []string{"default.d/a.cfg"}, v8, "packaged default.d/a.cfg"},
		{"empty directory of additions", []string{"8.0.d/"}, v8, "packaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, packaged := tree(t, test.files...), filepath.Join(tree(t, "packaged"), "packaged")
			src, err := selectFrom(dir, packaged, test.v)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Replace(paths(dir, src), packaged, "packaged", 1)
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			for _, layer := range src.Layers {
				if want := "# " + filepath.Base(layer.Path) + "\n"; string(layer.Text) != want {
					t.Errorf("%s contains %q", layer.Path, layer.Text)
				}
			}
		})
	}
}

func TestSelectBuiltIn(t *testing.T) {
	for _, dir := range []string{"", missing, t.TempDir()} {
		src, err := selectFrom(dir, missing, Version{"8.0.3", "1"})
		if err != nil {
			t.Fatal(err)
		}
		if paths("", src) != builtInName || string(src.Layers[0].Text) != string(builtInDefault) {
			t.Errorf("%q: %s", dir, paths("", src))
		}
	}
}

// Whatever stands in a file's place, Select and Read answer at once, and say
// which file and why.
func TestSelectBad(t *testing.T) {
	v := Version{"8.0.3", "1"}
	for _, test := range []struct {
		name  string
		files []string
		spoil func(dir string) error
		want  string
	}{
		{"symbolic link", []string{"7.cfg"}, func(d string) error { return os.Symlink("7.cfg", d+"/8.0.cfg") }, "/8.0.cfg: it is a symbolic link"},
		{"dangling link", nil, func(d string) error { return os.Symlink("none", d+"/8.0.cfg") }, "/8.0.cfg: it is a symbolic link"},
		{"FIFO", nil, func(d string) error { return syscall.Mkfifo(d+"/8.0.cfg", 0o600) }, "/8.0.cfg: it is a FIFO"},
		{"directory", []string{"8.0.cfg/"}, nil, "/8.0.cfg: it is a directory"},
		{"device", nil, func(d string) error { return syscall.Mknod(d+"/8.0.cfg", syscall.S_IFCHR|0o600, 1<<8|3) }, "/8.0.cfg: it is a device"},
		{"socket", nil, func(d string) error { return syscall.Mknod(d+"/8.0.cfg", syscall.S_IFSOCK|0o600, 0) }, "/8.0.cfg: it is a socket"},
		{"too large", nil, func(d string) error { return os.WriteFile(d+"/8.0.cfg", make([]byte, maxFile+1), 0o600) }, "/8.0.cfg: it is larger than 256 KiB"},
		{"additions without a file", []string{"8.0.d/a.cfg", "default.cfg"}, nil, "/8.0.d/a.cfg: there is no 8.0.cfg that it could extend; create"},
		{"additions not in a directory", []string{"8.0.cfg", "8.0.d"}, nil, "/8.0.d: it must be a directory"},
		{"additions behind a link", []string{"8.0.cfg", "x/"}, func(d string) error { return os.Symlink("x", d+"/8.0.d") }, "/8.0.d: it must be a directory"},
		{"additions of a more specific name behind a link", []string{"8.cfg", "x/"}, func(d string) error { return os.Symlink("x", d+"/8.0.d") }, "/8.0.d: it must be a directory"},
		{"addition is a link", []string{"8.0.cfg", "8.0.d/"}, func(d string) error { return os.Symlink("../8.0.cfg", d+"/8.0.d/a.cfg") }, "/8.0.d/a.cfg: it is a symbolic link"},
		{"too many additions", []string{"8.0.cfg"}, func(d string) error { return many(d+"/8.0.d", ".cfg", maxAdditions+1) }, "/8.0.d: it holds more than 100 additions"},
		{"too many files", []string{"8.0.cfg"}, func(d string) error { return many(d+"/8.0.d", ".txt", maxEntries+1) }, "/8.0.d: it holds more than"},
		{"together too large", []string{"8.0.cfg", "8.0.d/"}, func(d string) error {
			for i := range maxSource / maxFile {
				if err := os.WriteFile(d+"/8.0.d/"+strconv.Itoa(i)+".cfg", make([]byte, maxFile), 0o600); err != nil {
					return err
				}
			}
			return nil
		}, "together they are larger than 1024 KiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := tree(t, test.files...)
			if test.spoil != nil {
				if err := test.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			_, err := selectFrom(dir, missing, v)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if fault.ClassOf(err) != fault.Input {
				t.Errorf("class %d", fault.ClassOf(err))
			}
		})
	}
}

func many(dir, ending string, n int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)+ending), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// The version comes from an ISO; it must not become a path.
func TestSelectHostileVersion(t *testing.T) {
	for _, v := range []Version{{"../../etc/passwd", ""}, {"8.0/../x", ""}, {"8..0", ""}, {"8.0.3", "../1"}, {"8.0.3", "1\n"}, {"", "-"}, {"1.2.3.4.5", ""}, {strings.Repeat("1", 300), ""}} {
		_, err := Select(t.TempDir(), v)
		if fault.ClassOf(err) != fault.Input {
			t.Errorf("%q: %v", v, err)
		}
		if AffectedBy("/etc/x.cfg", "/etc", v) {
			t.Errorf("%q is affected", v)
		}
	}
}

// The packaged default may be a link, as packages are, but not a directory.
func TestSelectBadPackaged(t *testing.T) {
	dir := tree(t, "default.cfg/", "other.cfg")
	if _, err := selectFrom("", dir+"/default.cfg", Version{}); fault.ClassOf(err) != fault.Input {
		t.Error(err)
	}
	if err := os.Symlink("other.cfg", dir+"/link.cfg"); err != nil {
		t.Fatal(err)
	}
	if src, err := selectFrom("", dir+"/link.cfg", Version{}); err != nil || paths(dir, src) != "link.cfg" {
		t.Error(src, err)
	}
}

func TestRead(t *testing.T) {
	dir := tree(t, "my.cfg", "my.d/a.cfg", "dir/")
	if err := os.Symlink("my.cfg", dir+"/link.cfg"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"my.cfg", "link.cfg"} {
		src, err := Read(filepath.Join(dir, name))
		if err != nil || paths(dir, src) != name || string(src.Layers[0].Text) != "# my.cfg\n" {
			t.Errorf("%s: %v %v", name, src, err)
		}
	}
	_, err := Read(dir + "/none.cfg")
	if fault.ClassOf(err) != fault.Input || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Read(dir + "/dir"); fault.ClassOf(err) != fault.Input {
		t.Error(err)
	}
}

// A file that may not be read is not skipped in favour of a less specific one.
func TestSelectNotPermitted(t *testing.T) {
	dir := tree(t, "8.0.cfg", "default.cfg")
	if err := os.Chmod(dir+"/8.0.cfg", 0); err != nil {
		t.Fatal(err)
	}
	withoutRoot(t, func() {
		_, err := selectFrom(dir, missing, Version{"8.0.3", "1"})
		if fault.ClassOf(err) != fault.NotPermitted || !strings.Contains(err.Error(), "8.0.cfg") || !strings.Contains(err.Error(), "root:esxid") {
			t.Error(err)
		}
	})
}

func TestAdditionsNotPermitted(t *testing.T) {
	dir := tree(t, "8.0.cfg", "8.0.d/")
	if err := os.Chmod(dir+"/8.0.d", 0); err != nil {
		t.Fatal(err)
	}
	withoutRoot(t, func() {
		_, err := selectFrom(dir, missing, Version{"8.0.3", "1"})
		if fault.ClassOf(err) != fault.NotPermitted || !strings.Contains(err.Error(), "8.0.d") {
			t.Error(err)
		}
	})
}

// withoutRoot calls f on a thread that has no more rights on files than the
// user "nobody", whoever runs the test. f's own directory must be open to all.
func withoutRoot(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	for dir := t.TempDir(); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestAffectedBy(t *testing.T) {
	v := Version{"8.0.3", "24677879"}
	for _, test := range []struct {
		files []string // in the operator's directory
		path  string
		want  bool
	}{
		{nil, "DIR/8.0.3-24677879.cfg", true}, // removed, or about to come
		{nil, "DIR/8.0.cfg", true},
		{nil, "DIR/8.cfg", true},
		{nil, "DIR/default.cfg", true},
		{nil, "DIR/default.d/a.cfg", true},
		{nil, "DIR/default.d", true},
		{nil, packagedDefault, true},
		{nil, "DIR", true},
		{nil, "DIR/8.0.3-1.cfg", false},
		{nil, "DIR/8.0.2.cfg", false},
		{nil, "DIR/7.0.cfg", false},
		{nil, "DIR/80.cfg", false},
		{nil, "DIR/8.0.cfg~", false},
		{nil, "DIR/.8.0.cfg.swp", false},
		{nil, "DIR/README", false},
		{nil, "/elsewhere/8.0.cfg", false},
		{[]string{"8.0.cfg"}, "DIR/8.0.cfg", true},
		{[]string{"8.0.cfg"}, "DIR/8.0.3.cfg", true},
		{[]string{"8.0.cfg"}, "DIR/8.0.3.d/a.cfg", true},
		{[]string{"8.0.cfg"}, "DIR/8.cfg", false},
		{[]string{"8.0.cfg"}, "DIR/8.d/a.cfg", false},
		{[]string{"8.0.cfg"}, "DIR/default.cfg", false},
		{[]string{"8.0.cfg"}, packagedDefault, false},
		{[]string{"8.0.cfg"}, "DIR/8.0.d", true},
		{[]string{"8.0.cfg"}, "DIR/8.0.d/10-a.cfg", true},
		{[]string{"8.0.cfg"}, "DIR/8.0.d/README", false},
		{[]string{"8.0.cfg"}, "DIR/8.0.d/.10-a.cfg", false},
		{[]string{"8.0.cfg"}, "DIR/8.0.d/x/a.cfg", false},
		{[]string{"8.0.cfg"}, "DIR/./8.0.cfg", true},
	} {
		dir := tree(t, test.files...)
		path := strings.Replace(test.path, "DIR", dir, 1)
		if got := AffectedBy(path, dir+"/", v); got != test.want {
			t.Errorf("with %v: AffectedBy(%s) = %v", test.files, test.path, got)
		}
	}
	if AffectedBy("8.0.cfg", "", v) || !AffectedBy(packagedDefault, "", v) {
		t.Error("without an operator's directory only the packaged default counts")
	}
}

// AffectedBy's promise, tried out: over all pairs of a present and a changed
// file, what Select returns changes exactly if AffectedBy said so.
func TestAffectedByAgreesWithSelect(t *testing.T) {
	v := Version{"8.0.3", "24677879"}
	names := []string{"8.0.3-24677879.cfg", "8.0.3.cfg", "8.0.cfg", "8.0.d/a.cfg", "8.cfg", "8.d/a.cfg", "default.cfg", "default.d/a.cfg", "7.0.cfg", "8.0.d/b.txt"}
	for _, present := range names {
		for _, changed := range names {
			dir := tree(t, present)
			before := outcome(dir, v)
			path := filepath.Join(dir, changed)
			if present == changed {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, path, false)
			}
			affected := AffectedBy(path, dir, v)
			if diff := cmp.Diff(before, outcome(dir, v)); (diff != "") != affected {
				t.Errorf("%s present, %s changed: AffectedBy says %v, but %s", present, changed, affected, diff)
			}
		}
	}
}

func outcome(dir string, v Version) string {
	src, err := selectFrom(dir, missing, v)
	if err != nil {
		return err.Error()
	}
	return paths(dir, src)
}
