package maas

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/esxid/esxid/internal/fault"
)

// backoff paces retries: the pause doubles from RetryFirst to RetryMax, with
// jitter so that several clients do not come back together, and starts anew
// whenever something went forward.
type backoff struct {
	Limits
	failures int
	since    time.Time // of the first failure in a row
}

// forward notes that something was achieved.
func (b *backoff) forward() { b.failures = 0 }

// wait pauses after a failure, or gives up with an error of class TryLater.
func (b *backoff) wait(ctx context.Context, t *transient) error {
	if b.failures == 0 {
		b.since = time.Now()
	}
	pause := min(b.RetryFirst<<min(b.failures, 16), b.RetryMax)
	pause = pause/2 + rand.N(pause/2+1)
	pause = max(pause, min(t.after, b.RetryMax))
	b.failures++
	if time.Since(b.since)+pause > b.RetryFor {
		return fault.New(fault.TryLater, "%w; tried %d times in %s: try again later, the upload goes on where it can", t.err, b.failures, time.Since(b.since).Round(time.Second))
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
