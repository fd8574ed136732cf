package command

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// patience is how long a test waits for what must happen, on however busy a machine.
const patience = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv("COMMAND_TEST_PARENT") != "" {
		parent()
	}
	os.Exit(m.Run())
}

// parent starts a long-lived child, says its pid and waits to be killed.
func parent() {
	p, err := Start(context.Background(), Cmd{Name: "sleep", Args: []string{"300"}})
	if err != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.Itoa(p.Pid()) + "\n")
	_ = p.Wait()
	os.Exit(0)
}

func TestOutput(t *testing.T) {
	out, err := Output(t.Context(), "printf", "%s", "a b")
	if err != nil || string(out) != "a b" {
		t.Errorf("Output = %q, %v", out, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	_, err := Output(t.Context(), "head", "-c", strconv.Itoa(maxOutput+1), "/dev/zero")
	if err == nil || !strings.Contains(err.Error(), "printed more than") {
		t.Errorf("err = %v, want a refusal of too much output", err)
	}
}

func TestFailureQuotesStderr(t *testing.T) {
	_, err := Output(t.Context(), "ls", "/nonexistent/file")
	var e *Error
	if !errors.As(err, &e) || e.ExitCode() != 2 || !strings.Contains(e.Error(), "/nonexistent/file") {
		t.Errorf("err = %v, want exit code 2 with ls's own words", err)
	}
}

func TestStderrOfSuccess(t *testing.T) {
	p, err := Start(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo 'a  warning' >&2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Stderr(); got != "a warning" || p.Wait() != nil {
		t.Errorf("Stderr = %q, Wait = %v", got, p.Wait())
	}
}

func TestMissingProgramNamesPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Output(t.Context(), "qemu-img", "--version")
	if fault.ClassOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "apt install qemu-utils") {
		t.Errorf("err = %v, want advice to install qemu-utils", err)
	}
}

func TestEnvironmentIsCleaned(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	out, err := Output(t.Context(), "env")
	if err != nil {
		t.Fatal(err)
	}
	env := string(out)
	if strings.Contains(env, "NOTIFY_SOCKET") || strings.Contains(env, "CREDENTIALS_DIRECTORY") || !strings.Contains(env, "LC_ALL=C\n") {
		t.Errorf("child's environment:\n%s", env)
	}
}

// Nothing of a program's group is left, also if the program itself ends at once and
// leaves one behind that does not care for SIGTERM. The scripts write that one's id.
func TestCancelKillsGroup(t *testing.T) {
	for name, script := range map[string]string{
		"obedient": `sleep 300 & echo $! > "$0.tmp"; mv "$0.tmp" "$0"; wait`,
		"stubborn": `(trap '' TERM; exec sleep 300 2>/dev/null) & echo $! > "$0.tmp"
			while read _ name state _ </proc/$!/stat && [ "$name" != "(sleep)" ]; do :; done
			mv "$0.tmp" "$0"; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			pidFile := filepath.Join(t.TempDir(), "pid")
			p, err := Start(ctx, Cmd{Name: "sh", Args: []string{"-c", script, pidFile}})
			if err != nil {
				t.Fatal(err)
			}
			grandchild := waitForPid(t, pidFile)
			cancel()
			if err := p.Wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("Wait = %v, want the context's error", err)
			}
			waitGone(t, grandchild)
		})
	}
}

func TestChildDiesWithParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "COMMAND_TEST_PARENT=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitGone(t, child)
}

func waitForPid(t *testing.T, file string) int {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(file); err == nil {
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("the child never wrote its pid")
	return 0
}

// waitGone waits until the process is gone or a zombie.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			return
		}
		if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}
