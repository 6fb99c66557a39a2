package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// awayPause is between two tries of a step that Redis failed; it is reached from
// [lookPause] on, by doubling.
const awayPause = time.Second

// errForgotten says that Redis lost what it had accepted.
var errForgotten = errors.New("what was accepted is not known to Redis any more: was it emptied, or did it lose its last writes? " +
	"Bring its data back if you can, then run the same command again")

// insist does a step again and again while Redis fails it: for the job's
// patience at most, from the step's first failure on.
func (j *Job) insist(ctx context.Context, step func() error) error {
	var since time.Time
	for pause := lookPause; ; pause = min(2*pause, awayPause) {
		err := step()
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
		if since.IsZero() {
			since = time.Now()
			if j.Trouble != nil {
				j.Trouble(err)
			}
		}
		if away := time.Since(since); away >= j.Patience {
			return fmt.Errorf("nothing could be done with Redis for %v, and the patience is over: %w; run the same command again to continue",
				away.Round(time.Second), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// final says of an error that waiting for Redis does not mend it.
func final(err error) bool {
	if _, ok := errors.AsType[*InputError](err); ok {
		return true
	}
	if e, ok := errors.AsType[interface {
		error
		Fatal() bool
	}](err); ok && e.Fatal() {
		return true
	}
	return errors.Is(err, errForgotten) || errors.Is(err, ErrImpatient) || tasks.ReasonOf(err) != ""
}

// whyEnded is the cause of ctx's end where it has ended, whichever step noticed
// that and what it made of it.
func whyEnded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
