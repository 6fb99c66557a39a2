package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/tasks"
)

// unendedLink is a link with the reason why it does not exist yet.
type unendedLink struct {
	tasks.Link
	Diagnosis *diagnosis.Diagnosis `json:"diagnosis,omitempty"`
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
	now, err := a.snapshot(ctx)
	if err != nil {
		return unendedLink{Link: link}
	}
	state, err := a.reader().Request(ctx, now, link)
	if err != nil {
		return unendedLink{Link: link}
	}
	d := diagnosis.Request(now, state)
	return unendedLink{link, &d}
}

func (a *API) reader() *diagnosis.Reader { return diagnosis.NewReader(a.Redis, a.Stores) }

func (a *API) snapshot(ctx context.Context) (diagnosis.Snapshot, error) {
	return a.snapshots.get(func() (diagnosis.Snapshot, error) { return a.reader().Snapshot(ctx) })
}

// status is the diagnosis of the account.
type status struct {
	Account string `json:"account"`
	diagnosis.Diagnosis
}

// getStatus responds with the diagnosis of the account.
func (a *API) getStatus(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	now, err := a.snapshot(ctx)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, status{now.Account, diagnosis.Account(now)})
}
