package worker

import (
	"math/rand/v2"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
)

const (
	busyDelay     = 5 * time.Second // before looking again whether an attempt of another process is over
	recordTimeout = 5 * time.Second // for one try to record an answer
	recordPause   = time.Second     // between two such tries
	probePause    = 5 * time.Second // after a first probe that brought no link
	probeCap      = time.Hour
	// retryAfterMost is the most that a request waits by itself for FaceKi's
	// Retry-After. The gate waits for all of it, and may be open before.
	retryAfterMost = time.Minute
)

// later is returned to the queue for a task that is to come again. It is no
// failure: asynq's own counting and archive are never used.
type later struct{ delay time.Duration }

func (*later) Error() string { return "to be taken up again" }

// wholeSeconds is the delay to give to asynq, which cuts the time at which the
// task is due down to a second: it must not come before FaceKi wants it.
func (l *later) wholeSeconds() time.Duration {
	if l.delay <= 0 {
		return 0
	}
	return l.delay + time.Second - 1
}

// policy decides what follows a fault. It is the only place where a pause is
// chosen.
type policy struct {
	base, cap  time.Duration
	maxCharged int
	hold       bool                              // what may have made a link is not called again
	random     func(time.Duration) time.Duration // uniform from 0 to d
}

// next decides by the fault's columns. The pause before another attempt is
// exponential with full jitter: uniform between nothing and base·2^(n-1), n
// being the attempts so far. A request that was a probe waits twice as long each
// time, up to an hour: another one is to be the next. What may have made a link
// is held for a person where that is the policy.
func (p policy) next(f *fault.Fault, attempts int, probe bool) attempt.Next {
	next := attempt.Next{Action: attempt.Retry, MaxCharged: p.maxCharged, Delay: p.backoff(attempts)}
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
			next.Delay = min(probePause<<min(max(attempts-1, 0), 20), probeCap)
		case probe:
			next.Delay = probePause
		}
		next.Delay = max(next.Delay, min(f.RetryAfter, retryAfterMost))
	}
	return next
}

func (p policy) backoff(attempts int) time.Duration {
	ceiling := p.cap
	if shift := max(attempts-1, 0); shift < 63 && p.base <= p.cap>>shift { // a shift of base may overflow
		ceiling = p.base << shift
	}
	return p.random(ceiling)
}

// pause is for a task that could not be called at all, because Redis or a token
// could not be had.
func (p policy) pause() time.Duration { return time.Second + p.random(4*time.Second) }

func uniform(d time.Duration) time.Duration { return rand.N(d + 1) }
