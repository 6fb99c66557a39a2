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

func (s *localStore) Acquire(context.Context, string, time.Duration) (TokenState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Before(s.validUntil) {
		known := s.state
		known.ValidFor = s.validUntil.Sub(now)
		if known.Fault != nil {
			known.Fault = copyFault(known.Fault, known.Fault.RetryAfter-now.Sub(s.requestedAt))
		}
		return known, nil
	}
	if due := s.notBefore.Sub(now); due > 0 {
		return TokenState{NotBefore: due}, nil
	}
	s.state, s.requestedAt = TokenState{}, now
	return TokenState{Refresh: true}, nil
}

func (s *localStore) Release(_ context.Context, _ string, got TokenState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.validUntil = got, s.now().Add(got.ValidFor)
	return nil
}

func (s *localStore) Discard(_ context.Context, token Secret, spacing time.Duration) (kept bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Token != token {
		return false, nil
	}
	due := s.requestedAt.Add(spacing)
	if s.replaces && s.now().Before(due) {
		return true, nil
	}
	s.state, s.validUntil, s.notBefore, s.replaces = TokenState{}, time.Time{}, due, true
	return false, nil
}

func (s *localStore) MarkAccepted(_ context.Context, token Secret) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Token == token {
		s.replaces = false
	}
	return nil
}
