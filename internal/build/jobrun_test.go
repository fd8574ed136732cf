package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/vm"
)

const jobBuild = "6.7.0-8169922-1a2b3c4d"

var testNonce = strings.Repeat("N", 26)

// jobFixture is the directory of a build as the service leaves it for a unit.
type jobFixture struct {
	t        *testing.T
	builds   string
	dir      string
	progress []string
}

func newJobFixture(t *testing.T) *jobFixture {
	t.Helper()
	f := &jobFixture{t: t, builds: t.TempDir()}
	f.dir = filepath.Join(f.builds, jobBuild)
	if err := os.Mkdir(f.dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *jobFixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *jobFixture) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func customizeJob() Job {
	return Job{Format: jobFormat, Build: jobBuild, Step: StepCustomize, Nonce: testNonce, Customize: &CustomizeJob{Access: "direct", Unsupported: "error"}}
}

func installJob() Job {
	return Job{Format: jobFormat, Build: jobBuild, Step: StepInstall, Nonce: testNonce, Install: &InstallJob{
		ISOFile: "/isos/a.iso", Marker: "esxid-installed-0123456789abcdef", Accel: "tcg", QEMU: "qemu-system-x86_64", IdleTimeout: 1, OverallTimeout: 1,
		Profile: Profile{Machine: "pc", NIC: "e1000", MAC: "00:50:56:00:00:01", DiskBus: "ahci", KickstartMedium: "cdrom", MemoryMiB: 4096, CPUs: 2},
	}}
}

func (f *jobFixture) give(j Job) {
	f.t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(jobName, string(text))
}

func (f *jobFixture) run(ctx context.Context, step string) (string, error) {
	return RunJob(ctx, JobOptions{
		Builds: f.builds, Build: jobBuild, Step: step, Owner: os.Geteuid(), LockDir: filepath.Join(f.builds, "run"),
		Progress: func(line string) { f.progress = append(f.progress, line) },
	})
}

// result is what the job left.
func (f *jobFixture) result() *Result {
	f.t.Helper()
	d, err := openShared(f.builds, jobBuild)
	if err != nil {
		f.t.Fatal(err)
	}
	defer d.close()
	r, err := d.result(testNonce)
	if err != nil || r == nil {
		f.t.Fatalf("result %v, %v", r, err)
	}
	return r
}

// installedDisk puts a disk there as an installer leaves one, with an ESP.
func (f *jobFixture) installedDisk() {
	f.t.Helper()
	disk, err := makeInstalledDisk()
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(diskName, string(disk))
	if err := os.Truncate(f.path(diskName), 64<<20); err != nil {
		f.t.Fatal(err)
	}
}

// makeInstalledDisk returns the beginning of the disk. It is made once, because
// sgdisk sleeps for a second.
var makeInstalledDisk = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "esxid-disk-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 64<<20)); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"sgdisk", "--set-alignment=1", "--new=1:64:65535", "--typecode=1:EF00", disk},
		{"mkfs.fat", "--invariant", "-F", "16", "--offset=64", disk, "32736"},
		{"mmd", "-i", disk + "@@32768", "::/EFI"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	whole, err := os.ReadFile(disk)
	return whole[:1<<20], err
})

func (f *jobFixture) sum(name string) string {
	f.t.Helper()
	file, err := os.Open(f.path(name))
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		f.t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// Again and again it gives the same bytes, whatever a killed run has left.
func TestRunCustomizeJob(t *testing.T) {
	f := newJobFixture(t)
	f.installedDisk()
	pristine := f.sum(diskName)
	var first string
	for i := range 3 {
		f.give(customizeJob())
		f.write("."+resultName+".part", "half")
		switch i {
		case 0:
			f.write("."+espName+".part", "half")
		case 2:
			if out, err := exec.Command("mdeltree", "-i", f.path(diskName)+"@@32768", "::/curtin").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		note, err := f.run(t.Context(), StepCustomize)
		if err != nil || note != "direct" {
			t.Fatalf("%q, %v", note, err)
		}
		if r := f.result(); r.Note != "direct" || r.Failure != nil || r.Seconds <= 0 {
			t.Errorf("result %+v", r)
		}
		if first == "" {
			first = f.sum(diskName)
		}
		if got := f.sum(diskName); got != first || got == pristine {
			t.Errorf("run %d: the disk is %s, was %s and %s", i, got, first, pristine)
		}
	}
	out, err := exec.Command("mdir", "-b", "-i", f.path(diskName)+"@@32768", "::/curtin").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("curtin-hooks")) {
		t.Errorf("%v: %s", err, out)
	}
	// A job is done once only.
	if _, err := f.run(t.Context(), StepCustomize); fault.ClassOf(err) != fault.Usage || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("without a job: %v", err)
	}
	var names []string
	entries, err := os.ReadDir(f.dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{diskName, espName, resultName}; err != nil || !slices.Equal(names, want) {
		t.Errorf("left behind: %v, want %v", names, want)
	}
}

// Nothing that is put into the directory leads out of it.
func TestHostileDirectory(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	tests := []struct {
		name  string
		spoil func(f *jobFixture) error
		want  string
	}{
		{"disk is a link", func(f *jobFixture) error {
			return errors.Join(os.Remove(f.path(diskName)), os.Symlink(outside, f.path(diskName)))
		}, "too many levels"},
		{"disk has another name", func(f *jobFixture) error {
			return errors.Join(os.Remove(f.path(diskName)), os.Link(outside, f.path(diskName)))
		}, "single name"},
		{"disk is a FIFO", func(f *jobFixture) error {
			return errors.Join(os.Remove(f.path(diskName)), unix.Mkfifo(f.path(diskName), 0o600))
		}, "plain file"},
		{"disk is another's", func(f *jobFixture) error { return os.Chown(f.path(diskName), 12345, -1) }, "the build's owner"},
		{"disk is a directory", func(f *jobFixture) error {
			return errors.Join(os.Remove(f.path(diskName)), os.Mkdir(f.path(diskName), 0o700))
		}, "is a directory"},
		{"disk has no table", func(f *jobFixture) error { return os.WriteFile(f.path(diskName), make([]byte, 4096), 0o600) }, "partition table"},
		{"saved ESP is a link", func(f *jobFixture) error { return os.Symlink(outside, f.path(espName)) }, "too many levels"},
		{"saved ESP is of another disk", func(f *jobFixture) error { return os.WriteFile(f.path(espName), []byte("x"), 0o600) }, "the disk's ESP has"},
		{"saved ESP is huge", func(f *jobFixture) error {
			return errors.Join(os.WriteFile(f.path(espName), nil, 0o600), os.Truncate(f.path(espName), 1<<40))
		}, "the disk's ESP has"},
		{"job is a link", func(f *jobFixture) error {
			return errors.Join(os.Remove(f.path(jobName)), os.Symlink(outside, f.path(jobName)))
		}, "too many levels"},
		{"job is huge", func(f *jobFixture) error { return os.Truncate(f.path(jobName), maxJob+1) }, "more than"},
		{"temporary name is taken", func(f *jobFixture) error { return os.MkdirAll(f.path("."+espName+".part/x"), 0o700) }, "is a directory"},
		{"directory is another's", func(f *jobFixture) error { return os.Chown(f.dir, 12345, -1) }, "belongs to the user 12345"},
		{"directory is a link", func(f *jobFixture) error {
			return errors.Join(os.Rename(f.dir, f.builds+"/x"), os.Symlink(f.builds+"/x", f.dir))
		}, "not a directory"},
		{"builds is elsewhere", func(f *jobFixture) error { return os.Rename(f.dir, f.builds+"/x") }, "no such file"},
		{"somebody works there", func(f *jobFixture) error {
			d, err := openDirectory(f.builds, jobBuild, anyOwner)
			if err == nil {
				f.t.Cleanup(d.close)
			}
			return err
		}, "another process works in it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			f := newJobFixture(t)
			f.installedDisk()
			f.give(customizeJob())
			if err := tt.spoil(f); err != nil {
				t.Fatal(err)
			}
			if _, err := f.run(t.Context(), StepCustomize); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
			if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
				t.Errorf("outside is %q, %v", text, err)
			}
		})
	}
}

// A failure is left as a result, with its class and what the installer said.
func TestRunInstallJobFails(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/qemu-broken", []byte("#!/bin/sh\necho 'no such machine' >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := newJobFixture(t)
	j := installJob()
	j.Install.QEMU = bin + "/qemu-broken"
	f.give(j)
	_, err := f.run(t.Context(), StepInstall)
	r := f.result()
	if err == nil || r.Failure == nil || r.Failure.Message != err.Error() || r.Failure.Class != fault.ClassOf(err) {
		t.Fatalf("%v; result %+v", err, r.Failure)
	}
	if !strings.Contains(r.Failure.Message, "/isos/a.iso") || r.Stopped {
		t.Errorf("result %+v", r.Failure)
	}
	if _, err := os.Stat(f.path(installDir)); err == nil {
		t.Error("working files are left")
	}
}

// That an installation will be slow is told when it begins.
func TestRunInstallJobWithoutKVM(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/qemu-broken", []byte("#!/bin/sh\necho 'no KVM\nat all' >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := newJobFixture(t)
	j := installJob()
	j.Install.QEMU, j.Install.Accel = bin+"/qemu-broken", "auto"
	f.give(j)
	_, err := f.run(t.Context(), StepInstall)
	r := f.result()
	if err == nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "using TCG") || strings.Contains(r.Warnings[0], "\n") {
		t.Fatalf("%v; result %+v", err, r)
	}
	if want := []string{"warning: " + r.Warnings[0]}; !slices.Equal(f.progress, want) {
		t.Errorf("shown %q, want %q", f.progress, want)
	}
}

// A job that is told to end says so, which is not the same as a failure.
func TestRunJobIsStopped(t *testing.T) {
	f := newJobFixture(t)
	f.installedDisk()
	f.give(customizeJob())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.run(ctx, StepCustomize); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if r := f.result(); !r.Stopped || r.Failure == nil {
		t.Errorf("result %+v", r)
	}
}

func TestParseJob(t *testing.T) {
	good := map[string]Job{StepInstall: installJob(), StepCustomize: customizeJob()}
	tests := []struct {
		step  string
		spoil func(j *Job)
		want  string
	}{
		{StepInstall, func(*Job) {}, ""},
		{StepCustomize, func(*Job) {}, ""},
		{StepInstall, func(j *Job) { j.Format = 2 }, "format 2"},
		{StepInstall, func(j *Job) { j.Build = "8.0.3-1-00000000" }, "of build"},
		{StepInstall, func(j *Job) { j.Step = StepCustomize }, "it is for"},
		{StepInstall, func(j *Job) { j.Nonce = "../x" }, "nonce"},
		{StepInstall, func(j *Job) { j.Install = nil }, "not about this step"},
		{StepInstall, func(j *Job) { j.Customize = &CustomizeJob{} }, "not about this step"},
		{StepInstall, func(j *Job) { j.Install.ISOFile = "a.iso" }, "absolute"},
		{StepInstall, func(j *Job) { j.Install.ISOFile = "/isos/../a.iso" }, "absolute"},
		{StepInstall, func(j *Job) { j.Install.Marker = "x;y" }, "marker"},
		{StepInstall, func(j *Job) { j.Install.Accel = "hvf" }, "accelerator"},
		{StepInstall, func(j *Job) { j.Install.QEMU = "" }, "lacks"},
		{StepInstall, func(j *Job) { j.Install.IdleTimeout = -1 }, "lacks"},
		{StepInstall, func(j *Job) { j.Install.Profile.NIC = "e1000,bus=x" }, "NIC"},
		{StepInstall, func(j *Job) { j.Install.Profile.MemoryMiB = 1 << 30 }, "memory"},
		{StepCustomize, func(j *Job) { j.Customize.Access = "loop" }, "access"},
		{StepCustomize, func(j *Job) { j.Customize.Unsupported = "" }, "unsupported"},
	}
	for _, tt := range tests {
		text, err := json.Marshal(good[tt.step])
		if err != nil {
			t.Fatal(err)
		}
		var j Job
		if err := json.Unmarshal(text, &j); err != nil { // a copy
			t.Fatal(err)
		}
		tt.spoil(&j)
		if text, err = json.Marshal(j); err != nil {
			t.Fatal(err)
		}
		_, err = parseJob(text, jobBuild, tt.step)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.step, err)
		case tt.want != "" && (fault.ClassOf(err) != fault.Input || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("err = %v, want %q", err, tt.want)
		}
	}
}

func FuzzParseJob(f *testing.F) {
	for _, j := range []Job{installJob(), customizeJob()} {
		text, err := json.Marshal(j)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, step := range []string{StepInstall, StepCustomize} {
			j, err := parseJob(text, jobBuild, step)
			if err != nil {
				continue
			}
			if j.Install != nil && (j.Customize != nil || step != StepInstall || j.Install.Profile.hardware().Check() != nil) || j.Install == nil && j.Customize == nil {
				t.Errorf("accepted: %s", text)
			}
		}
	})
}

// What a unit says of an installation's failure is whole again in the service.
func TestFailureRoundTrip(t *testing.T) {
	before := fault.As(fault.CannotWrite, fmt.Errorf("cannot do it: %w", &vm.InstallError{Phase: "post", Cause: "no space", Console: "/c", Screen: "/s", Err: errors.New("QEMU's words")}))
	text, err := json.Marshal(failure(before))
	if err != nil {
		t.Fatal(err)
	}
	var f Failure
	if err := unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	after := f.Err()
	var installer *vm.InstallError
	if after.Error() != before.Error() || fault.ClassOf(after) != fault.CannotWrite || !errors.As(after, &installer) || installer.Screen != "/s" || installer.Phase != "post" {
		t.Errorf("%v is %v now, %+v", before, after, installer)
	}
}
