package weasel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// maxInclude bounds how deep %include may go.
const maxInclude = 8

// load parses a kickstart, runs its %pre and takes in what it includes, in
// this order.
func (in *Installer) load(text string, depth int) (*Kickstart, error) {
	if depth > maxInclude {
		return nil, fmt.Errorf("error: %%include: more than %d files deep", maxInclude)
	}
	k := Parse(text)
	for _, s := range k.Scripts {
		in.Log.Printf("kickstart: section %%%s (%s) of line %d:\n%s", s.Kind, s.Interpreter, s.Line, s.Body)
	}
	if k.Fatal() {
		return k, nil
	}
	for _, s := range k.Scripts {
		if s.Kind != "pre" {
			continue
		}
		if err := in.runScript(s); err != nil {
			k.fail(s.Line, "%%pre failed: %v", err)
		}
	}
	for _, command := range k.Commands {
		if command.Name != "%include" && command.Name != "include" {
			continue
		}
		if len(command.Args) != 1 {
			k.fail(command.Line, "%s needs one file", command.Name)
			continue
		}
		path := command.Args[0]
		if strings.Contains(path, "://") {
			k.fail(command.Line, "%%include %s: the network is not up", path)
			continue
		}
		text, err := os.ReadFile("/" + strings.TrimLeft(path, "/"))
		if err != nil {
			k.fail(command.Line, "%%include %s: %v", path, err)
			continue
		}
		included, err := in.load(string(text), depth+1)
		if err != nil {
			return nil, err
		}
		k.Commands = append(k.Commands, included.Commands...)
		k.Scripts = append(k.Scripts, included.Scripts...)
		k.Problems = append(k.Problems, included.Problems...)
	}
	return k, nil
}

// runScript runs the body of a section and logs what it prints.
func (in *Installer) runScript(s Script) error {
	if s.Interpreter == "python" {
		return errors.New("the simulator has no python")
	}
	path := fmt.Sprintf("/tmp/%s.%d", s.Kind, s.Line)
	if err := os.WriteFile(path, []byte(s.Body), 0o700); err != nil {
		return err
	}
	ctx := context.Background()
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Timeout)
		defer cancel()
	}
	in.say("Running %%%s of line %d", s.Kind, s.Line)
	cmd := exec.CommandContext(ctx, "/bin/busybox", "sh", path)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/"}
	out := lineWriter{log: in.Log, prefix: "%" + s.Kind}
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("it took longer than %v", s.Timeout)
	}
	return err
}
