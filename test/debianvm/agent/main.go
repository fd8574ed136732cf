// The agent runs in a machine of package debianvm and does what the test asks.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/esxid/esxid/test/debianvm/wire"
)

func main() {
	log.SetFlags(0)
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func serve() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	port, err := os.OpenFile("/dev/virtio-ports/"+wire.Port, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	var mu sync.Mutex
	out := json.NewEncoder(port)
	reply := func(r wire.Reply) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(r); err != nil {
			log.Print(err)
		}
	}
	reply(wire.Reply{Boot: strings.TrimSpace(string(boot))})
	for in := json.NewDecoder(port); ; {
		var c wire.Command
		if err := in.Decode(&c); err != nil {
			return err
		}
		go func() { reply(run(c)) }()
	}
}

func run(c wire.Command) wire.Reply {
	r := wire.Reply{ID: c.ID}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.Seconds*float64(time.Second)))
	defer cancel()
	var stdout, stderr capped
	cmd := exec.CommandContext(ctx, "/bin/bash", "-c", c.Script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	killGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = killGroup
	// What left the group, a service of its own, may hold the pipes open.
	cmd.WaitDelay = 2 * time.Second
	if err := as(cmd, c.User); err != nil {
		r.Error = err.Error()
		return r
	}
	err := cmd.Run()
	if cmd.Process != nil {
		_ = killGroup() // what the script left in the background
	}
	r.Stdout, r.Stderr = stdout.data, stderr.data
	r.TimedOut = ctx.Err() != nil
	if state := cmd.ProcessState; state != nil {
		r.ExitCode = state.ExitCode()
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.ExitCode = 128 + int(ws.Signal())
		}
	} else if err != nil {
		r.Error = err.Error()
	}
	return r
}

// as makes the command run with the rights of a user, and with the environment
// of a fresh login either way.
func as(cmd *exec.Cmd, name string) error {
	if name == "" {
		name = "root"
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0",
		"HOME=" + u.HomeDir, "USER=" + name,
	}
	if u.Uid == "0" {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return err
	}
	credential := &syscall.Credential{}
	for i, s := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.ParseUint(s, 10, 32)
		switch {
		case err != nil:
			return err
		case i == 0:
			credential.Uid = uint32(n)
		case i == 1:
			credential.Gid = uint32(n)
		default:
			credential.Groups = append(credential.Groups, uint32(n))
		}
	}
	cmd.SysProcAttr.Credential = credential
	return nil
}

// capped keeps the first wire.MaxOutput bytes and swallows the rest.
type capped struct{ data []byte }

func (c *capped) Write(p []byte) (int, error) {
	c.data = append(c.data, p[:min(len(p), wire.MaxOutput-len(c.data))]...)
	return len(p), nil
}
