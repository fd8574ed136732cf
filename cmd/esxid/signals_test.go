package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// In a process of its own, the test below asks it to end twice, or to write to
// nobody.
func TestSignalsChild(_ *testing.T) {
	switch os.Getenv("ESXID_TEST_SIGNALS") {
	case "twice":
		ctx, _ := handleSignals()
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
		<-ctx.Done()
		for range 1000 { // the second one counts as soon as the first is dealt with
			_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
			time.Sleep(10 * time.Millisecond)
		}
		os.Exit(3)
	case "pipe":
		handleSignals()
		if _, err := os.Stdout.WriteString("x"); errors.Is(err, syscall.EPIPE) {
			os.Exit(4)
		}
		os.Exit(3)
	}
}

func TestSignals(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	defer writer.Close()
	status := func(what string) syscall.WaitStatus {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSignalsChild$")
		cmd.Env = append(os.Environ(), "ESXID_TEST_SIGNALS="+what)
		cmd.Stdout = writer
		_ = cmd.Run() // it is to fail
		return cmd.ProcessState.Sys().(syscall.WaitStatus)
	}
	if s := status("twice"); s.Signal() != syscall.SIGINT {
		t.Errorf("the second interrupt did not end the program: status %v", s)
	}
	if s := status("pipe"); s.ExitStatus() != 4 {
		t.Errorf("writing to a closed pipe: status %v, want an error", s)
	}
}
