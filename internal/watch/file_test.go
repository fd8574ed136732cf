package watch

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestJudge goes through what is decided about a file at which age; the options
// are far enough apart to tell their limits from each other.
func TestJudge(t *testing.T) {
	const settle, lull, quiet, notice, giveUp = 2 * time.Second, 10 * time.Second, time.Minute, 3 * time.Minute, 10 * time.Minute
	short := errors.New("380 of 400 MiB are there")
	denied := &fs.PathError{Op: "open", Path: "x.iso", Err: unix.EACCES}
	type verdict struct {
		kind   Kind
		reason string
		due    time.Duration
	}
	for _, tt := range []struct {
		name    string
		path    string
		kind    fs.FileMode
		empty   bool
		writers use
		err     error
		lack    error
		age     time.Duration
		want    verdict
	}{
		{name: "no writer, too young", writers: unused, age: settle - 1, want: verdict{due: settle}},
		{name: "no writer", writers: unused, age: settle, want: verdict{kind: Complete}},
		{name: "foreign, too young", age: settle - 1, want: verdict{due: settle}},
		{name: "foreign, young", age: lull - 1, want: verdict{"", "may still be open", lull}},
		{name: "foreign, old", age: lull, want: verdict{kind: Complete}},
		{name: "foreign, cut short", lack: short, age: lull, want: verdict{"", "380 of 400", quiet}},
		{name: "open, settled", writers: busy, age: settle, want: verdict{"", "still open", settle * 3 / 2}},
		{name: "open, idle", writers: busy, age: 20 * time.Second, want: verdict{"", "still open", 30 * time.Second}},
		{name: "open, noticed", writers: busy, age: notice, want: verdict{Waiting, "still open", notice + quiet}},
		{name: "open for ever", writers: busy, age: 100 * giveUp, want: verdict{Waiting, "still open", 100*giveUp + quiet}},
		{name: "cut short, young", writers: unused, lack: short, age: settle, want: verdict{"", "380 of 400", quiet}},
		{name: "cut short, noticed", writers: unused, lack: short, age: notice, want: verdict{Waiting, "is not whole yet: 380 of 400", giveUp}},
		{name: "cut short, old", writers: unused, lack: short, age: giveUp, want: verdict{Refused, "has not changed for 10m0s: 380 of 400", 0}},
		{name: "cut short, open, old", writers: busy, lack: short, age: giveUp, want: verdict{Waiting, "still open", giveUp + quiet}},
		{name: "empty, young", empty: true, writers: unused, age: settle, want: verdict{"", "is empty", quiet}},
		{name: "empty, open", empty: true, writers: busy, age: giveUp, want: verdict{Waiting, "still open", giveUp + quiet}},
		{name: "empty, old", empty: true, writers: unused, age: giveUp, want: verdict{Refused, "is empty: copy it again", 0}},
		{name: "unreadable, young", err: denied, age: settle, want: verdict{"", "cannot be read", quiet}},
		{name: "unreadable, old", err: denied, age: quiet, want: verdict{Refused, "permission denied: make it readable", 0}},
		{name: "other name, young", path: "x.txt", writers: unused, age: settle, want: verdict{"", "no name that ends in .iso", quiet}},
		{name: "other name, open", path: "x.txt", writers: busy, age: quiet, want: verdict{"", "still open", quiet * 3 / 2}},
		{name: "other name, old", path: "x.txt", writers: unused, age: quiet, want: verdict{Refused, "rename it", 0}},
		{name: "other name, foreign", path: "x.txt", age: quiet, want: verdict{Refused, "rename it", 0}},
		{name: "other name, empty", path: "x", empty: true, writers: unused, age: quiet, want: verdict{Refused, "rename it", 0}},
		{name: "upper case", path: "X.ISO", writers: unused, age: settle, want: verdict{kind: Complete}},
		{name: "symlink", kind: fs.ModeSymlink, age: settle, want: verdict{Refused, "symbolic link", 0}},
		{name: "FIFO", kind: fs.ModeNamedPipe, age: settle, want: verdict{Refused, "FIFO", 0}},
		{name: "socket", kind: fs.ModeSocket, age: settle, want: verdict{Refused, "socket", 0}},
		{name: "device", kind: fs.ModeDevice | fs.ModeCharDevice, age: settle, want: verdict{Refused, "device", 0}},
		{name: "directory, young", kind: fs.ModeDir, age: settle, want: verdict{"", "is a directory", quiet}},
		{name: "directory, old", kind: fs.ModeDir, age: quiet, want: verdict{Refused, "is a directory", 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whole := func(string) error { return tt.lack }
			o := Options{Settle: settle, Quiet: quiet, Notice: notice, GiveUp: giveUp, Whole: whole}.withDefaults()
			f := file{path: "x.iso", stamp: stamp{kind: tt.kind, size: 1}}
			if tt.path != "" {
				f.path = tt.path
			}
			if tt.empty {
				f.stamp.size = 0
			}
			probe := func(string) (use, error) {
				if tt.kind != 0 {
					t.Error("a file that is not regular was opened")
				}
				return tt.writers, tt.err
			}
			kind, reason, due := f.judge(&o, tt.age, probe)
			if kind != tt.want.kind || due != tt.want.due || !strings.Contains(reason, tt.want.reason) || (tt.want.reason == "") != (reason == "") {
				t.Errorf("judge = %q %q %v, want %q %q %v", kind, reason, due, tt.want.kind, tt.want.reason, tt.want.due)
			}
		})
	}
}

// TestLull: how long a file must rest where no lease is to be had.
func TestLull(t *testing.T) {
	whole := func(string) error { return nil }
	for _, tt := range []struct {
		o    Options
		want time.Duration
	}{
		{Options{}, time.Minute},
		{Options{Whole: whole}, 10 * time.Second},
		{Options{Whole: whole, Settle: 20 * time.Second}, time.Minute},
		{Options{Whole: whole, Quiet: 3 * time.Second}, 3 * time.Second},
		{Options{Quiet: time.Hour}, time.Hour},
	} {
		if got := tt.o.withDefaults().lull; got != tt.want {
			t.Errorf("settle %v, quiet %v, whole %v: lull %v, want %v", tt.o.Settle, tt.o.Quiet, tt.o.Whole != nil, got, tt.want)
		}
	}
}

func TestIgnored(t *testing.T) {
	for name, want := range map[string]bool{
		"VMware-VMvisor-Installer-8.0U3e-24677879.x86_64.iso": false,
		"x.ISO": false, "readme.txt": false, "x.iso.sha256": false, "part": false,
		".x.iso.Xb3kQz": true, ".hidden.iso": true, ".iso": true, "x.iso~": true, "#x.iso#": true, "lost+found": true,
		"x.iso.part": true, "x.iso.PARTIAL": true, "Unconfirmed 123.crdownload": true, "x.iso.tmp": true,
		"x.iso.filepart": true, "x.iso.aria2": true,
	} {
		if got := ignored(name); got != want {
			t.Errorf("ignored(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestWriters(t *testing.T) {
	path := t.TempDir() + "/x.iso"
	write(t, path, "x")
	check := func(what string, want use) {
		t.Helper()
		if got, err := writers(path); got != want || err != nil {
			t.Errorf("%s: writers = %v, %v, want %v", what, got, err, want)
		}
	}
	check("closed", unused)

	r, err := os.Open(path)
	must(t, err)
	defer r.Close()
	check("open for reading", unused)

	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	check("open for writing", busy)
	must(t, w.Close())
	check("closed again", unused)

	// No lease stays behind: a writer that must not wait gets in.
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	must(t, unix.Close(fd))
}

func TestWritersOfWhatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("/etc/passwd", dir+"/link"))
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	for _, path := range []string{dir + "/missing", dir + "/link"} {
		if got, err := writers(path); got != unknown || err == nil {
			t.Errorf("writers(%s) = %v, %v, want an error", path, got, err)
		}
	}
	// A FIFO put in a file's place must not block us.
	if got, err := writers(dir + "/fifo"); got == busy || err != nil {
		t.Errorf("writers(fifo) = %v, %v", got, err)
	}
}

// TestWritersOfForeignFile: a service without CAP_LEASE cannot know about
// files of other users.
func TestWritersOfForeignFile(t *testing.T) {
	path := "/etc/passwd"
	if os.Geteuid() == 0 {
		path = t.TempDir() + "/x.iso"
		write(t, path, "x")
		must(t, os.Chown(path, 65534, 65534))
		must(t, os.Chmod(path, 0o644))
	}
	type answer struct {
		use use
		err error
	}
	result := make(chan answer)
	go func() {
		// Capabilities belong to the thread, which ends with the goroutine
		// because it is never unlocked.
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			result <- answer{err: err}
			return
		}
		u, err := writers(path)
		result <- answer{u, err}
	}()
	if got := <-result; got.use != unknown || got.err != nil {
		t.Errorf("writers = %v, %v, want unknown", got.use, got.err)
	}
}
