package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestClassOf(t *testing.T) {
	cause := errors.New("cause")
	tests := []struct {
		name string
		err  error
		want Class
	}{
		{"nil", nil, 0},
		{"plain", cause, Failed},
		{"attached", New(Input, "cannot read x.iso: %w", cause), Input},
		{"attached and wrapped", fmt.Errorf("cannot build: %w", New(Config, "bad key")), Config},
		{"outermost wins", New(TryLater, "later: %w", New(Input, "x")), TryLater},
		{"disk full", &os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, CannotWrite},
		{"quota", fmt.Errorf("cannot write: %w", syscall.EDQUOT), CannotWrite},
		{"permission", fmt.Errorf("cannot open: %w", fs.ErrPermission), NotPermitted},
		{"deadline", fmt.Errorf("cannot upload: %w", context.DeadlineExceeded), TryLater},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ClassOf(tt.err); got != tt.want {
				t.Errorf("ClassOf(%v) = %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}

func TestAsKeepsTextAndChain(t *testing.T) {
	cause := errors.New("cause")
	err := As(Unavailable, cause)
	if err.Error() != "cause" || !errors.Is(err, cause) {
		t.Errorf("As changed the error: %v", err)
	}
	if As(Unavailable, nil) != nil {
		t.Error("As(nil) is not nil")
	}
}

func TestPasses(t *testing.T) {
	for class, want := range map[Class]bool{
		Failed: false, Usage: false, Input: false, Unavailable: true, CannotWrite: true, TryLater: true, NotPermitted: false, Config: false,
	} {
		if got := Passes(fmt.Errorf("cannot build: %w", New(class, "x"))); got != want {
			t.Errorf("Passes of class %d = %v", class, got)
		}
	}
	if Passes(nil) {
		t.Error("no error passes")
	}
}
