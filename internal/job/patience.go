package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

// maxRetryPause is the longest pause between two attempts at a step that fails
// because of Redis. The pause begins with [pollPause] and doubles.
const maxRetryPause = time.Second

// errDataLost reports that Redis lost what was accepted.
var errDataLost = errors.New("Redis no longer knows what was accepted: was it emptied, or did it lose its last writes? " + //nolint:staticcheck // a name
	"Restore its data if you can, then run the same command again")

// withRetries repeats a step that fails because of Redis, for at most the job's
// patience from its first failure.
func (j *Job) withRetries(ctx context.Context, step func() error) error {
	var since time.Time
	for pause := pollPause; ; pause = min(2*pause, maxRetryPause) {
		err := step()
		if err == nil || ctx.Err() != nil || isPermanent(err) {
			return err
		}
		if since.IsZero() {
			since = time.Now()
			if j.OnRedisError != nil {
				j.OnRedisError(err)
			}
		}
		if away := time.Since(since); away >= j.Patience {
			return fmt.Errorf("Redis failed for %v, longer than --patience: %w; run the same command again to continue", //nolint:staticcheck // a name
				away.Round(time.Second), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// isPermanent reports whether waiting for Redis does not help.
func isPermanent(err error) bool {
	if _, ok := errors.AsType[*input.Error](err); ok {
		return true
	}
	if e, ok := errors.AsType[interface {
		error
		Fatal() bool
	}](err); ok && e.Fatal() {
		return true
	}
	return errors.Is(err, errDataLost) || errors.Is(err, ErrImpatient) || tasks.ReasonOf(err) != ""
}
