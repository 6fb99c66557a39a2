package api

import (
	"context"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/tasks"
)

// unendedLink is a link with the reason why it does not exist yet.
type unendedLink struct {
	tasks.Link
	Diagnosis string `json:"diagnosis,omitempty"`
}

// snapshotAge is how long a snapshot of the account is used.
const snapshotAge = time.Second

// snapshots caches the latest snapshot of the account, so that many requests cause one
// read.
type snapshots struct {
	mu   sync.Mutex
	last diagnosis.Snapshot
	err  error
	at   time.Time
}

func (s *snapshots) get(read func() (diagnosis.Snapshot, error)) (diagnosis.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || time.Since(s.at) >= snapshotAge {
		s.last, s.err = read()
		s.at = time.Now()
	}
	return s.last, s.err
}

// unended adds the reason why a link does not exist yet, if it can be read.
func (a *API) unended(ctx context.Context, link tasks.Link) unendedLink {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	now, err := a.snapshots.get(func() (diagnosis.Snapshot, error) { return diagnosis.Read(ctx, a.Redis, a.Ledger) })
	if err == nil {
		now, err = now.About(ctx, a.Ledger, link)
	}
	if err != nil {
		return unendedLink{Link: link}
	}
	return unendedLink{link, now.Why()}
}
