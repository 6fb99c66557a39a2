package worker

import (
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	probePause    = 5 * time.Second // after a probe that made no link, or the first that may have
	longestProbes = time.Hour       // between two probes of one request
	// longestRetryAfter is how long one request waits at most for FaceKi's Retry-After. The
	// gate waits for all of it, and may be open earlier.
	longestRetryAfter = time.Minute
)

// policy decides what follows a fault. It is the only place where the pauses of a request
// are chosen.
type policy struct {
	base, cap  time.Duration
	maxCharged int
	hold       bool                              // a request with an uncertain outcome is held, not called again
	random     func(time.Duration) time.Duration // uniform between 0 and d
}

// next decides by the columns of the fault's row. The pause before another attempt is
// exponential with full jitter: uniform between 0 and base·2^(n-1), n being the attempts so
// far. A request whose probe had an uncertain outcome waits twice as long with each such
// outcome, up to an hour, so that another request is the next probe. An uncertain outcome
// is held if that is the policy. r is the record with this attempt, before its outcome.
func (p policy) next(f *fault.Fault, r request.Record, probe bool) attempt.Next {
	next := attempt.Next{Action: attempt.Retry, MaxCharged: p.maxCharged, Delay: p.backoff(r.Attempts)}
	switch f.Scope() {
	case fault.ThisRequest:
		next.Action = attempt.Fail
	case fault.Person:
		next.Action = attempt.Hold
	case fault.Ourselves:
		next.Action, next.Delay = attempt.Requeue, 0
	default:
		if p.hold && f.Outcome() == fault.Uncertain {
			next.Action = attempt.Hold
			break
		}
		switch {
		case probe && f.Outcome() == fault.Uncertain:
			next.Delay = min(probePause<<min(r.PossibleDuplicates, 20), longestProbes)
		case probe:
			next.Delay = probePause
		}
		next.Delay = max(next.Delay, min(f.RetryAfter, longestRetryAfter))
	}
	return next
}

func (p policy) backoff(attempts int) time.Duration {
	ceiling := p.cap
	if shift := max(attempts-1, 0); shift < 63 && p.base <= p.cap>>shift { // shifting base might overflow
		ceiling = p.base << shift
	}
	return p.random(ceiling)
}

// pause returns the pause of a task that could not be called at all, because Redis or a
// token was not available.
func (p policy) pause() time.Duration { return time.Second + p.random(4*time.Second) }
