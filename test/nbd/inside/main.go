// Command inside exercises internal/nbd in the virtual machine of test/nbd,
// where it is root and the kernel has two nbd devices. It prints a line for each
// scenario.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// lockDir does not exist at first.
const lockDir = "/run/esxid"

var scenarios = []struct {
	name string
	run  func(ctx context.Context, dir string) error
}{
	{"available", available},
	{"payload-is-byte-equal", payloadIsByteEqual},
	{"devices-are-shared-out", devicesAreSharedOut},
	{"foreign-device-is-left-alone", foreignDeviceIsLeftAlone},
	{"killed-owner", killedOwner},
	{"killed-owner-whose-server-lives-on", killedOwnerWhoseServerLivesOn},
	{"killed-server", killedServer},
	{"cancelled", cancelled},
	{"image-disk-full", imageDiskFull},
}

func main() {
	if len(os.Args) > 1 {
		if err := child(os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if !runAll() {
		os.Exit(1)
	}
}

func runAll() (ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := makeTemplate(ctx); err != nil {
		fmt.Println(err)
		return false
	}
	ok = true
	for _, s := range scenarios {
		start := time.Now()
		if err := scenario(ctx, s.run); err != nil {
			ok = false
			fmt.Printf("%s: %q\n", s.name, err)
			continue
		}
		fmt.Printf("%s: ok %.1f s\n", s.name, time.Since(start).Seconds())
	}
	return ok
}

// scenario runs one scenario, after which the machine must be as before.
func scenario(ctx context.Context, run func(context.Context, string) error) error {
	dir, err := os.MkdirTemp("", "nbd-*")
	if err != nil {
		return err
	}
	return errors.Join(run(ctx, dir), nothingLeft(), os.RemoveAll(dir))
}

// nothingLeft checks that there is no record, no attached device and no server.
func nothingLeft() error {
	files, err := filepath.Glob(lockDir + "/*")
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("left behind: %v", files)
	}
	for _, device := range []string{"nbd0", "nbd1"} {
		if !isFree(device) {
			return fmt.Errorf("%s is still attached", device)
		}
	}
	if pids := processes("qemu-nbd"); len(pids) > 0 {
		return fmt.Errorf("qemu-nbd is still running: %v", pids)
	}
	return nil
}

// processes returns the ids of the processes of that name. A zombie does not
// count: the machine's init reaps no orphans.
func processes(name string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is fine
	for _, file := range files {
		text, err := os.ReadFile(file)
		pid, rest, _ := strings.Cut(string(text), " ")
		if err != nil || !strings.HasPrefix(rest, "("+name+") ") || strings.HasPrefix(rest, "("+name+") Z") {
			continue
		}
		if n, err := strconv.Atoi(pid); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

func isFree(device string) bool {
	size, err := os.ReadFile("/sys/block/" + device + "/size")
	_, pidErr := os.Stat("/sys/block/" + device + "/pid")
	return err == nil && strings.TrimSpace(string(size)) == "0" && pidErr != nil
}

// run runs a program of the machine.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

// ESP is where newDisk puts the first partition, in sectors of 512 bytes.
const (
	espStart   = 2048
	espSectors = 16384
)

// template is a disk of 32 MiB with a GPT, an EFI system partition and a second
// partition.
const template = "/tmp/template.raw"

func makeTemplate(ctx context.Context) error {
	if err := os.WriteFile(template, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(template, 32<<20); err != nil {
		return err
	}
	esp := fmt.Sprintf("--new=1:%d:%d", espStart, espStart+espSectors-1)
	if err := run(ctx, "sgdisk", esp, "--typecode=1:ef00", "--new=2:0:0", template); err != nil {
		return err
	}
	return run(ctx, "mkfs.fat", "-F", "16", "-s", "1", "--offset", fmt.Sprint(espStart), template, fmt.Sprint(espSectors/2))
}

// newDisk makes a copy of the template.
func newDisk(ctx context.Context, path string) error {
	return run(ctx, "cp", "--sparse=always", template, path)
}
