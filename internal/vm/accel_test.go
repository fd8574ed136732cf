package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/fault"
)

func TestBootSectorRuns(t *testing.T) {
	t.Parallel()
	if err := runGuest(t.Context(), defaultQEMU, "tcg", time.Minute); err != nil {
		t.Error(err)
	}
}

// TestResolveHere takes this machine as it is: whatever its KVM can do, the
// answers must agree.
func TestResolveHere(t *testing.T) {
	t.Parallel()
	auto, why, err := Resolve(t.Context(), "", "auto")
	if err != nil {
		t.Fatal(err)
	}
	kvm, _, kvmErr := Resolve(t.Context(), "", "kvm")
	t.Logf("auto = %s, because %q", auto, why)
	switch {
	case auto == "kvm" && (why != "" || kvmErr != nil || kvm != "kvm"):
		t.Errorf("auto is kvm (%q), but kvm is %q, %v", why, kvm, kvmErr)
	case auto == "tcg" && (why == "" || kvmErr == nil || kvm != ""):
		t.Errorf("auto is tcg (%q), but kvm is %q, %v", why, kvm, kvmErr)
	}
	if tcg, why, err := Resolve(t.Context(), "", "tcg"); tcg != "tcg" || why != "" || err != nil {
		t.Errorf("tcg = %q, %q, %v", tcg, why, err)
	}
	if _, _, err := Resolve(t.Context(), "", "xen"); fault.ClassOf(err) != fault.Config {
		t.Errorf("xen: %v", err)
	}
}

// fakeQEMU puts a script in the place of QEMU, before the real PATH.
func fakeQEMU(t *testing.T, body string) {
	t.Helper()
	t.Setenv("PATH", filepath.Dir(script(t, body))+":"+os.Getenv("PATH"))
}

func TestResolve(t *testing.T) {
	device := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		device, qemu string
		problem      string // "": KVM works
	}{
		"works":         {device, `case "$*" in *"-accel kvm -cpu host"*) exit 43;; esac`, ""},
		"no device":     {device + ".gone", "exit 43", "modprobe kvm_intel"},
		"no device now": {filepath.Dir(device), "exit 43", "is a directory"},
		"broken":        {device, "echo 'failed to set MSR' >&2; exit 1", "starts no guest: qemu-system-x86_64: exit status 1: failed to set MSR"},
		"ends":          {device, "echo 'bye' >&2", "ended without executing its code: bye"},
		"stuck":         {device, "echo 'KVM internal error' >&2; exec sleep 60", "executed nothing within 2s: KVM internal error"},
		"crashes":       {device, "kill -ABRT $$", "signal: aborted"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeQEMU(t, tt.qemu)
			limit := time.Minute
			if name == "stuck" {
				limit = 2 * time.Second // enough for a busy machine to start a script
			}
			resolved, why, err := resolve(t.Context(), defaultQEMU, "auto", tt.device, limit)
			if tt.problem == "" {
				if resolved != "kvm" || why != "" || err != nil {
					t.Errorf("auto = %q, %q, %v", resolved, why, err)
				}
				return
			}
			if resolved != "tcg" || err != nil || !strings.Contains(why, tt.problem) || !strings.Contains(why, "using TCG") {
				t.Errorf("auto = %q, %q, %v", resolved, why, err)
			}
			resolved, _, err = resolve(t.Context(), defaultQEMU, "kvm", tt.device, limit)
			if resolved != "" || fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), tt.problem) || !strings.Contains(err.Error(), "--accel tcg") {
				t.Errorf("kvm = %q, %v (class %d)", resolved, err, fault.ClassOf(err))
			}
		})
	}
}

// The program that will run the installer is the one that is tried.
func TestResolveWithAnotherQEMU(t *testing.T) {
	device := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fakeQEMU(t, "exit 1")
	other := script(t, "exit 43")
	if resolved, _, err := resolve(t.Context(), other, "kvm", device, time.Minute); resolved != "kvm" || err != nil {
		t.Errorf("%q, %v", resolved, err)
	}
}

func TestResolveWithoutQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, accel := range []string{"kvm", "tcg", "auto"} {
		if _, _, err := Resolve(t.Context(), "", accel); fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "apt install") {
			t.Errorf("%s: %v", accel, err)
		}
	}
}

func TestResolveCancelled(t *testing.T) {
	fakeQEMU(t, "exec sleep 60")
	device := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := resolve(ctx, defaultQEMU, "auto", device, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, not a fallback to TCG", err)
	}
}

// TestResolveNotPermitted opens the device as somebody who may not: root drops
// its rights on files for one thread, which ends with the test.
func TestResolveNotPermitted(t *testing.T) {
	device := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(device, nil, 0); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		err error
		why string
	}
	answers := make(chan answer)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if os.Geteuid() == 0 {
			_, _ = unix.SetfsuidRetUid(65534)
		}
		_, why, _ := resolve(t.Context(), defaultQEMU, "auto", device, time.Minute)
		_, _, err := resolve(t.Context(), defaultQEMU, "kvm", device, time.Minute)
		answers <- answer{err, why}
	}()
	got := <-answers
	if fault.ClassOf(got.err) != fault.NotPermitted || !strings.Contains(got.err.Error(), "usermod -aG kvm") {
		t.Errorf("kvm: %v", got.err)
	}
	if !strings.Contains(got.why, "permission denied") {
		t.Errorf("auto: %q", got.why)
	}
}
