package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/esxid/esxid/internal/nbd"
)

// child is what this program does in the processes that scenarios start.
func child(args []string) error {
	ctx := context.Background()
	switch args[0] {
	case "available":
		return nbd.Available(ctx)
	case "hold": // attaches a disk, says so, and uses it until it is killed
		d, err := nbd.Attach(ctx, args[1], options)
		if err != nil {
			return err
		}
		fmt.Println(d.Path)
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	return fmt.Errorf("unknown argument %q", args)
}

// killHolder starts a process that attaches a new disk, and kills it.
func killHolder(ctx context.Context, dir string, env ...string) error {
	disk := filepath.Join(dir, "disk.raw")
	if err := newDisk(ctx, disk); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "hold", disk)
	cmd.Env = append(os.Environ(), env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "/dev/nbd0\n" {
		return errors.Join(fmt.Errorf("the holder says %q: %w", line, err), cmd.Process.Kill(), cmd.Wait())
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // killed
	return nil
}

// recoverOne checks that there is one record, and none after Recover.
func recoverOne(ctx context.Context) error {
	if _, err := os.Stat(lockDir + "/nbd0.json"); err != nil {
		return err
	}
	return nbd.Recover(ctx, lockDir)
}

// killedOwner: the server dies with esxid, and only the record is left.
func killedOwner(ctx context.Context, dir string) error {
	if err := killHolder(ctx, dir); err != nil {
		return err
	}
	for !isFree("nbd0") {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("the server did not die with its owner")
		}
	}
	return recoverOne(ctx)
}

// killedOwnerWhoseServerLivesOn: a server that is not told of its owner's death
// leaves the device attached.
func killedOwnerWhoseServerLivesOn(ctx context.Context, dir string) error {
	script := "#!/bin/sh\nexec setpriv --pdeathsig clear /usr/bin/qemu-nbd \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "qemu-nbd"), []byte(script), 0o755); err != nil {
		return err
	}
	if err := killHolder(ctx, dir, "PATH="+dir+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	if isFree("nbd0") {
		return errors.New("the server died with its owner")
	}
	return recoverOne(ctx)
}

// foreignDeviceIsLeftAlone: what somebody else attached is neither used nor
// recovered, not even if an old record names the device and the same image.
func foreignDeviceIsLeftAlone(ctx context.Context, dir string) error {
	foreign, disk := filepath.Join(dir, "foreign.raw"), filepath.Join(dir, "disk.raw")
	if err := errors.Join(newDisk(ctx, foreign), newDisk(ctx, disk)); err != nil {
		return err
	}
	if err := run(ctx, "qemu-nbd", "--format=raw", "--connect=/dev/nbd0", foreign); err != nil {
		return err
	}
	disconnect := func() error { return run(ctx, "qemu-nbd", "--disconnect", "/dev/nbd0") }
	record := fmt.Sprintf(`{"disk": %q, "pid": 1}`, foreign)
	if err := os.WriteFile(lockDir+"/nbd0.json", []byte(record), 0o644); err != nil {
		return errors.Join(err, disconnect())
	}
	d, err := nbd.Attach(ctx, disk, options)
	if err != nil {
		return errors.Join(err, disconnect())
	}
	if d.Path != "/dev/nbd1" {
		err = fmt.Errorf("attached to %s", d.Path)
	}
	err = errors.Join(err, nbd.Recover(ctx, lockDir), d.Detach())
	err = errors.Join(err, hasTable("/dev/nbd0"))
	return errors.Join(err, disconnect(), awaitEnd(ctx, "qemu-nbd"))
}

// killedServer: the work cannot have been completed, but nothing is left.
func killedServer(ctx context.Context, dir string) error {
	disk := filepath.Join(dir, "disk.raw")
	if err := newDisk(ctx, disk); err != nil {
		return err
	}
	d, err := nbd.Attach(ctx, disk, options)
	if err != nil {
		return err
	}
	for _, pid := range processes("qemu-nbd") {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return errors.Join(err, d.Detach())
		}
	}
	if err := awaitEnd(ctx, "qemu-nbd"); err != nil {
		return errors.Join(err, d.Detach())
	}
	if err := d.Detach(); err == nil || !strings.Contains(err.Error(), "qemu-nbd ended while /dev/nbd0 was in use") {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}

// awaitEnd waits for the end of all processes of that name.
func awaitEnd(ctx context.Context, name string) error {
	for len(processes(name)) > 0 {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s does not end", name)
		}
	}
	return nil
}
