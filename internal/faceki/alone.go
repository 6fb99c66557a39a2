package faceki

import (
	"context"
	"sync"
	"time"
)

// alone is the store of a process that shares its token with no other: there
// is always one flight at most, so that nobody has to wait for a turn.
type alone struct {
	now func() time.Time

	mu       sync.Mutex
	kept     Claim
	until    time.Time
	askedAt  time.Time
	due      time.Time
	replaces bool // no call has been accepted since a token was refused
}

func (a *alone) Claim(context.Context, string, time.Duration) (Claim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if now.Before(a.until) {
		known := a.kept
		known.Left = a.until.Sub(now)
		if known.Fault != nil {
			known.Fault = repeated(known.Fault, known.Fault.RetryAfter-now.Sub(a.askedAt))
		}
		return known, nil
	}
	if due := a.due.Sub(now); due > 0 {
		return Claim{Due: due}, nil
	}
	a.kept, a.askedAt = Claim{}, now
	return Claim{Turn: true}, nil
}

func (a *alone) Land(_ context.Context, _ string, got Claim) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept, a.until = got, a.now().Add(got.Left)
	return nil
}

func (a *alone) Drop(_ context.Context, token Secret, spacing time.Duration) (kept bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept.Token != token {
		return false, nil
	}
	due := a.askedAt.Add(spacing)
	if a.replaces && a.now().Before(due) {
		return true, nil
	}
	a.kept, a.until, a.due, a.replaces = Claim{}, time.Time{}, due, true
	return false, nil
}

func (a *alone) Accepted(_ context.Context, token Secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept.Token == token {
		a.replaces = false
	}
	return nil
}
