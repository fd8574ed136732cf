package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// usage is what a program took.
type usage struct {
	Wall, CPU time.Duration
	RSS       int64 // peak, bytes
	Size      int64 // of its output
}

// measure runs a program. Its standard output goes to the file out, or nowhere.
func measure(ctx context.Context, out, name string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if out != "" {
		f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return usage{}, err
		}
		defer f.Close()
		cmd.Stdout = f
	}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("%s: %w: %s", name, err, stderr.Bytes())
	}
	u := usage{Wall: time.Since(start), CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	u.RSS = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	return u, nil
}

// measureSize looks at what the program has written.
func (u *usage) measureSize(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		u.Size = info.Size()
	}
	return err
}

// better is the faster of two runs, with the higher peak of both.
func (u usage) better(v usage) usage {
	rss := max(u.RSS, v.RSS)
	if v.Wall < u.Wall {
		u = v
	}
	u.RSS = rss
	return u
}

func (u usage) print(name, note string) {
	size := ""
	if u.Size > 0 {
		size = fmt.Sprintf("  %7.1f MB", float64(u.Size)/1e6)
	}
	fmt.Printf("  %-12s %8.2f s   CPU %7.2f s  %4d MiB resident%s%s\n", name, u.Wall.Seconds(), u.CPU.Seconds(), u.RSS>>20, size, note)
}
