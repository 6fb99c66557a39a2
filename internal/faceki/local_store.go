package faceki

import (
	"context"
	"sync"
	"time"
)

// localStore is the store of a process that does not share its token. tokens makes one
// request at a time, so localStore needs no lease.
type localStore struct {
	now func() time.Time

	mu          sync.Mutex
	state       TokenState
	validUntil  time.Time
	requestedAt time.Time
	notBefore   time.Time // of the next request
	replaces    bool      // the token replaces a refused one, and no call with it has been accepted
}

func (a *localStore) Acquire(context.Context, string, time.Duration) (TokenState, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if now.Before(a.validUntil) {
		known := a.state
		known.ValidFor = a.validUntil.Sub(now)
		if known.Fault != nil {
			known.Fault = copyFault(known.Fault, known.Fault.RetryAfter-now.Sub(a.requestedAt))
		}
		return known, nil
	}
	if due := a.notBefore.Sub(now); due > 0 {
		return TokenState{NotBefore: due}, nil
	}
	a.state, a.requestedAt = TokenState{}, now
	return TokenState{Refresh: true}, nil
}

func (a *localStore) Release(_ context.Context, _ string, got TokenState) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.validUntil = got, a.now().Add(got.ValidFor)
	return nil
}

func (a *localStore) Discard(_ context.Context, token Secret, spacing time.Duration) (kept bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.Token != token {
		return false, nil
	}
	due := a.requestedAt.Add(spacing)
	if a.replaces && a.now().Before(due) {
		return true, nil
	}
	a.state, a.validUntil, a.notBefore, a.replaces = TokenState{}, time.Time{}, due, true
	return false, nil
}

func (a *localStore) MarkAccepted(_ context.Context, token Secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.Token == token {
		a.replaces = false
	}
	return nil
}
