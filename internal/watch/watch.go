// Package watch tells when files that other programs put into a directory are
// complete: [ISOs] for the drop directory, [Kickstarts] for the directory of
// kickstart overrides. It never moves, changes or deletes a file.
//
// Linux has no call that says "nobody will write to this file any more", so
// several weak signs are combined:
//
//   - the file has not changed for some time (Settle): neither its size, its
//     times nor its inode;
//   - a read lease is granted, which the kernel refuses while anyone has the
//     file open for writing; only for files of our own user, or with CAP_LEASE,
//     and not on network file systems. Where it cannot be had, the file must
//     stay as it is for longer;
//   - and always the caller's own check of the content (Whole), so that a copy
//     which stalls for minutes, or is resumed by a second process, is not taken
//     half-way.
//
// Directories are watched with fsnotify. Its events are hints where to look, and
// nothing is concluded from one alone. This library for all systems does not
// pass on inotify's event for the close after writing, nor can it be told to
// leave out the single writes. What that costs: a file of another user takes
// longer; one that stays open long after its last write is looked at again after
// half that time; and a copy wakes the process some twenty times a second, or
// for each write if several copies go on together.
//
// Changes made by another machine on a shared file system, a mount over the
// directory, its unmounting and a moved grandparent raise no event: the rescan
// (Rescan) finds them. Nothing else is polled: with no file pending there is no
// timer but that. Time is measured on the monotonic clock; a file's times are
// only compared with themselves, so wrong or jumping clocks do not matter.
package watch

import (
	"context"
	"time"
)

// Kind says what an [Event] is about.
type Kind string

const (
	// Complete: the file at Path can be taken. It is told again if the file
	// changes afterwards or another one takes its name, and at every rescan
	// for as long as it is there.
	Complete Kind = "complete"
	// Refused: what is at Path will not become a usable file. Told again like
	// Complete.
	Refused Kind = "refused"
	// Waiting: the file at Path has not changed for a while (Options.Notice)
	// but is not complete either; Reason says what is missing. Complete,
	// Refused or Gone follows in time.
	Waiting Kind = "waiting"
	// Gone: a file that was told about is no longer there.
	Gone Kind = "gone"
	// Changed: the files in Paths were added, changed or removed.
	Changed Kind = "changed"
	// Trouble: the directory at Path cannot be watched at the moment, or not
	// fully; Reason says why. It is tried again by itself.
	Trouble Kind = "trouble"
	// Recovered: the trouble is over, and what happened meanwhile has been
	// looked for.
	Recovered Kind = "recovered"
)

// Event is something the caller of [ISOs] or [Kickstarts] should know.
type Event struct {
	Kind   Kind
	Path   string   // the file; for Trouble, Recovered and Changed the directory
	Paths  []string // Changed only: sorted, below Path
	Reason string   // Refused, Waiting, Trouble: reads on after the path, no newline
}

// Options tune a watch. The zero value of each field means its default.
type Options struct {
	// Settle is how long a file that nobody has open for writing must stay as it
	// is (ISOs), and how long all files must (Kickstarts). Default 2 s.
	Settle time.Duration
	// Rescan is how often the directory is read without an event; ISOs then also
	// tells again about every file that is still there, so that a caller who
	// could not take it (disk full) tries again. Default 10 min.
	Rescan time.Duration
	// Again asks for such a rescan at once. May be nil.
	Again <-chan struct{}
	// MaxFiles bounds how many files are tracked at a time; more are left alone
	// until others are gone. Default 4096.
	MaxFiles int

	// The rest is for ISOs only.

	// Quiet is how long a file must stay as it is when it cannot be known
	// whether somebody still has it open for writing. With Whole, five times
	// Settle is enough, if that is less: the file says itself that nothing is
	// missing. Default 1 min.
	Quiet time.Duration
	// Notice is how long a file must stay as it is to be told of as Waiting.
	// Default 1 min.
	Notice time.Duration
	// GiveUp is how long a file may stay empty or not whole, with nobody known
	// to be writing, before it is refused. Default 10 min.
	GiveUp time.Duration
	// Whole reports what a file still lacks going by its own content (say, the
	// size in an ISO's volume descriptor), or nil if nothing is known to be
	// missing; also for a file that is not of the right kind at all, which is
	// not this package's business. It is only called for readable regular
	// files that are not empty. Nil means there is nothing to check.
	Whole func(path string) error

	lull time.Duration // what follows from Quiet, Settle and Whole, see Quiet
}

// withDefaults fills in what the caller left out.
func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Settle, 2*time.Second)
	set(&o.Rescan, 10*time.Minute)
	set(&o.Quiet, time.Minute)
	set(&o.Notice, time.Minute)
	set(&o.GiveUp, 10*time.Minute)
	if o.MaxFiles <= 0 {
		o.MaxFiles = 4096
	}
	o.lull = o.Quiet
	if o.Whole == nil {
		o.Whole = func(string) error { return nil }
	} else {
		o.lull = min(o.Quiet, 5*o.Settle)
	}
	return o
}

// outbox hands events to the caller. The channel has no buffer: a caller that
// does not read lets the kernel's queue fill, which a rescan makes good.
type outbox struct {
	ctx context.Context
	ch  chan Event
	// trouble is the reason of the trouble the caller knows of, or "".
	trouble string
}

func (o *outbox) send(e Event) {
	select {
	case o.ch <- e:
	case <-o.ctx.Done():
	}
}

// state tells of trouble with dir, or of its end, once.
func (o *outbox) state(dir, trouble string) {
	switch trouble {
	case o.trouble:
		return
	case "":
		o.send(Event{Kind: Recovered, Path: dir})
	default:
		o.send(Event{Kind: Trouble, Path: dir, Reason: trouble})
	}
	o.trouble = trouble
}
