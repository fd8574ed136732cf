package watch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// overrides is a kickstart directory with a file and a subdirectory with one.
func overrides(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "etc", "kickstart.d")
	must(t, os.MkdirAll(filepath.Join(dir, "8.0.d"), 0o755))
	write(t, filepath.Join(dir, "8.0.cfg"), "one")
	write(t, filepath.Join(dir, "8.0.d", "10-ntp.cfg"), "one")
	return dir
}

func followKickstarts(t *testing.T, dir string, o Options) *follower {
	t.Helper()
	ch, err := Kickstarts(t.Context(), dir, o)
	must(t, err)
	return &follower{t, dir, ch}
}

// wantChanged requires that the next event is a change of exactly these files.
func (f *follower) wantChanged(names ...string) {
	f.t.Helper()
	e := f.want(Changed, "")
	for i, name := range names {
		names[i] = filepath.Join(f.dir, name)
	}
	if !slices.Equal(e.Paths, names) {
		f.t.Fatalf("changed %q, want %q", e.Paths, names)
	}
}

// TestKickstartEdits edits files in the ways people and programs do; each must
// be one change with just the right files.
func TestKickstartEdits(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(t *testing.T, dir string)
		want []string
	}{
		{"in place", func(t *testing.T, dir string) { write(t, dir+"/8.0.cfg", "three") }, []string{"8.0.cfg"}},
		{"same length", func(t *testing.T, dir string) { write(t, dir+"/8.0.cfg", "two") }, []string{"8.0.cfg"}},
		{"append", func(t *testing.T, dir string) { run(t, "sh", "-c", "echo x >>$0/8.0.cfg", dir) }, []string{"8.0.cfg"}},
		{"sed -i", func(t *testing.T, dir string) { run(t, "sed", "-i", "s/one/two/", dir+"/8.0.cfg") }, []string{"8.0.cfg"}},
		{"vim", func(t *testing.T, dir string) {
			write(t, dir+"/.8.0.cfg.swp", "swap")
			write(t, dir+"/4913", "")
			must(t, os.Remove(dir+"/4913"))
			must(t, os.Rename(dir+"/8.0.cfg", dir+"/8.0.cfg~"))
			write(t, dir+"/8.0.cfg", "two")
			must(t, os.Remove(dir+"/8.0.cfg~"))
			must(t, os.Remove(dir+"/.8.0.cfg.swp"))
		}, []string{"8.0.cfg"}},
		{"emacs", func(t *testing.T, dir string) {
			must(t, os.Symlink("root@host.123:456", dir+"/.#8.0.cfg"))
			write(t, dir+"/#8.0.cfg#", "auto save")
			write(t, dir+"/8.0.cfg", "two")
			must(t, os.Remove(dir+"/#8.0.cfg#"))
			must(t, os.Remove(dir+"/.#8.0.cfg"))
		}, []string{"8.0.cfg"}},
		{"ansible", func(t *testing.T, dir string) {
			tmp := filepath.Join(t.TempDir(), "source")
			write(t, tmp, "two")
			must(t, os.Rename(tmp, dir+"/.ansible_tmpabc8.0.cfg"))
			must(t, os.Chmod(dir+"/.ansible_tmpabc8.0.cfg", 0o640))
			must(t, os.Rename(dir+"/.ansible_tmpabc8.0.cfg", dir+"/8.0.cfg"))
		}, []string{"8.0.cfg"}},
		{"new file", func(t *testing.T, dir string) { write(t, dir+"/default.cfg", "x") }, []string{"default.cfg"}},
		{"removed", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/8.0.cfg")) }, []string{"8.0.cfg"}},
		{"renamed", func(t *testing.T, dir string) { must(t, os.Rename(dir+"/8.0.cfg", dir+"/7.0.cfg")) }, []string{"7.0.cfg", "8.0.cfg"}},
		{"mode", func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/8.0.cfg", 0o600)) }, []string{"8.0.cfg"}},
		{"symlink", func(t *testing.T, dir string) { must(t, os.Symlink("8.0.cfg", dir+"/9.cfg")) }, []string{"9.cfg"}},
		{"in the subdirectory", func(t *testing.T, dir string) { write(t, dir+"/8.0.d/10-ntp.cfg", "two") }, []string{"8.0.d/10-ntp.cfg"}},
		{"several", func(t *testing.T, dir string) {
			write(t, dir+"/8.0.cfg", "two")
			must(t, os.Remove(dir+"/8.0.d/10-ntp.cfg"))
			write(t, dir+"/8.0.d/20-ssh.cfg", "two")
		}, []string{"8.0.cfg", "8.0.d/10-ntp.cfg", "8.0.d/20-ssh.cfg"}},
		{"cp -r of a subdirectory", func(t *testing.T, dir string) { run(t, "cp", "-r", dir+"/8.0.d", dir+"/7.0.d") }, []string{"7.0.d/10-ntp.cfg"}},
		{"mv of a subdirectory", func(t *testing.T, dir string) { must(t, os.Rename(dir+"/8.0.d", dir+"/7.0.d")) },
			[]string{"7.0.d/10-ntp.cfg", "8.0.d/10-ntp.cfg"}},
		{"rm -r of a subdirectory", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/8.0.d")) }, []string{"8.0.d/10-ntp.cfg"}},
		{"written and removed", func(t *testing.T, dir string) {
			write(t, dir+"/x.cfg", "x")
			must(t, os.Remove(dir+"/x.cfg"))
		}, []string{"x.cfg"}}, // the caller may have looked in between
		{"not ours", func(t *testing.T, dir string) {
			write(t, dir+"/README", "x")
			write(t, dir+"/8.0.d/notes.txt", "x")
			must(t, os.MkdirAll(dir+"/8.0.d/more.d", 0o755))
			write(t, dir+"/8.0.d/more.d/x.cfg", "x")
			must(t, os.Mkdir(dir+"/backup", 0o755))
			write(t, dir+"/backup/x.cfg", "x")
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The events are read after all is done, so that no pause of the
			// machine makes two changes of it.
			k, err := newKickstarts(t.Context(), overrides(t), Options{Settle: 20 * time.Millisecond})
			must(t, err)
			tt.edit(t, k.place.path)
			go k.run()
			f := &follower{t, k.place.path, k.ch}
			if tt.want != nil {
				f.wantChanged(tt.want...)
			}
			put(t, f.dir+"/zz.cfg", "sentinel")
			f.wantChanged("zz.cfg")
		})
	}
}

// TestSubdirectoriesAreWatched from when they come until they go.
func TestSubdirectoriesAreWatched(t *testing.T) {
	f := followKickstarts(t, overrides(t), Options{Settle: 20 * time.Millisecond})
	sub := f.dir + "/7.0.d"
	must(t, os.Mkdir(sub, 0o755))
	put(t, sub+"/a.cfg", "one")
	f.wantChanged("7.0.d/a.cfg")
	put(t, sub+"/a.cfg", "two")
	f.wantChanged("7.0.d/a.cfg")

	aside := filepath.Join(t.TempDir(), "aside")
	must(t, os.Rename(sub, aside))
	f.wantChanged("7.0.d/a.cfg")
	put(t, aside+"/a.cfg", "three")
	put(t, f.dir+"/default.cfg", "x")
	f.wantChanged("default.cfg")
	must(t, os.Rename(aside, sub))
	f.wantChanged("7.0.d/a.cfg")
	put(t, sub+"/a.cfg", "four")
	f.wantChanged("7.0.d/a.cfg")
}

// TestChangesAreBundled: each change extends the wait for quiet, but not for ever.
func TestChangesAreBundled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kickstarts{o: Options{Settle: 2 * time.Second}}
		start := time.Now()
		for range 2 * maxDelay {
			k.touch()
			want := min(time.Since(start)+k.o.Settle, maxDelay*k.o.Settle)
			if got := k.due.Sub(start); got != want {
				t.Fatalf("after %v due at %v, want %v", time.Since(start), got, want)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestKickstartDirectoryComesAndGoes(t *testing.T) {
	f := followKickstarts(t, overrides(t), Options{Settle: 20 * time.Millisecond})
	parent := filepath.Dir(f.dir)
	must(t, os.Rename(parent, filepath.Join(t.TempDir(), "aside")))
	f.wantReason(Trouble, "", "it does not exist") // but nothing counts as removed

	other := filepath.Join(t.TempDir(), "etc")
	must(t, os.MkdirAll(other+"/kickstart.d/9.0.d", 0o755))
	write(t, other+"/kickstart.d/9.0.d/a.cfg", "one")
	must(t, os.Rename(other, parent))
	f.want(Recovered, "")
	f.wantChanged("8.0.cfg", "8.0.d/10-ntp.cfg", "9.0.d/a.cfg")
	put(t, f.dir+"/9.0.d/a.cfg", "two")
	f.wantChanged("9.0.d/a.cfg")
}

// TestKickstartEventsLost: what happened unseen is found when the kernel says
// that events were lost, and subdirectories are watched as before.
func TestKickstartEventsLost(t *testing.T) {
	k, err := newKickstarts(t.Context(), overrides(t), Options{Settle: 20 * time.Millisecond})
	must(t, err)
	for _, path := range k.place.watcher.WatchList() {
		must(t, k.place.watcher.Remove(path))
	}
	put(t, k.place.path+"/8.0.d/10-ntp.cfg", "two")
	must(t, os.Mkdir(k.place.path+"/7.0.d", 0o755))
	k.place.lost <- struct{}{} // as hear does
	go k.run()
	f := &follower{t, k.place.path, k.ch}
	f.wantChanged("8.0.d/10-ntp.cfg")
	put(t, f.dir+"/7.0.d/a.cfg", "one")
	f.wantChanged("7.0.d/a.cfg")
	put(t, f.dir+"/8.0.d/10-ntp.cfg", "three")
	f.wantChanged("8.0.d/10-ntp.cfg")
}

// TestKickstartRescan finds what raises no event: a change behind a symlink.
func TestKickstartRescan(t *testing.T) {
	dir := overrides(t)
	outside := filepath.Join(t.TempDir(), "git.cfg")
	write(t, outside, "one")
	must(t, os.Symlink(outside, dir+"/9.cfg"))
	f := followKickstarts(t, dir, Options{Settle: 20 * time.Millisecond, Rescan: 100 * time.Millisecond})
	write(t, outside, "two or three")
	f.wantChanged("9.cfg")
}

func TestKickstartAgain(t *testing.T) {
	dir := overrides(t)
	outside := filepath.Join(t.TempDir(), "git.cfg")
	write(t, outside, "one")
	must(t, os.Symlink(outside, dir+"/9.cfg"))
	again := make(chan struct{})
	f := followKickstarts(t, dir, Options{Settle: 20 * time.Millisecond, Again: again})
	write(t, outside, "two or three")
	again <- struct{}{}
	f.wantChanged("9.cfg")
}

func TestKickstartMaxFiles(t *testing.T) {
	dir := overrides(t)
	if _, err := Kickstarts(t.Context(), dir, Options{MaxFiles: 1}); err == nil {
		t.Error("a directory with too many files was taken")
	}
	f := followKickstarts(t, dir, Options{Settle: 20 * time.Millisecond, MaxFiles: 2})
	write(t, dir+"/9.cfg", "x")
	f.wantReason(Trouble, "", "holds more than 2 files")
	must(t, os.Remove(dir+"/8.0.cfg"))
	f.want(Recovered, "")
	f.wantChanged("8.0.cfg", "9.cfg")
}
