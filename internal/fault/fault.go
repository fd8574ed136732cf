// Package fault classifies errors by what the operator can do about them.
//
// Every error esxid shows ends as one exit code (docs: esxid(8), EXIT STATUS)
// or one D-Bus error name. The class is attached where the cause is known and
// read once, at the boundary; in between, errors are wrapped with %w as usual.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Class says what kind of failure an error is. Its values are the process exit
// codes of sysexits(3) where one fits.
type Class int

const (
	Failed       Class = 1  // the work itself failed
	Usage        Class = 2  // wrong arguments
	Input        Class = 65 // the ISO, kickstart or image is not what it should be
	Unavailable  Class = 69 // a service or tool cannot be reached
	CannotWrite  Class = 73 // an output cannot be written (disk full, read-only)
	TryLater     Class = 75 // may work when tried again
	NotPermitted Class = 77 // rights are missing
	Config       Class = 78 // the configuration is wrong
)

// Error is an error with a class.
type Error struct {
	Class Class
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// New formats like fmt.Errorf (including %w) and attaches class.
func New(class Class, format string, args ...any) error {
	return &Error{Class: class, Err: fmt.Errorf(format, args...)}
}

// As attaches class to err, leaving its text alone. A nil err stays nil.
func As(class Class, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Err: err}
}

// ClassOf returns the class of err: the outermost attached one, else what the
// operating system's error implies, else Failed. It is 0 for nil.
func ClassOf(err error) Class {
	var e *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Class
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS):
		return CannotWrite
	case errors.Is(err, fs.ErrPermission):
		return NotPermitted
	case errors.Is(err, context.DeadlineExceeded):
		return TryLater
	}
	return Failed
}

// Passes reports whether what err is about may be over without anybody changing
// the input: a disk that is full, a service that is down.
func Passes(err error) bool {
	switch ClassOf(err) {
	case TryLater, Unavailable, CannotWrite:
		return true
	default:
		return false
	}
}
