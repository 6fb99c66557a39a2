package bulk

import (
	"context"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// room is a job's wait for room among the requests that may wait.
type room struct {
	job  *Job
	ctx  context.Context //nolint:containedctx // of the rows' acceptance, which stop ends
	stop context.CancelCauseFunc

	mu             sync.Mutex
	looked, since  time.Time
	accepted, made int
}

// Full is for the OnFull of the job's client: where there is no room for rows, and
// for the job's patience no row was accepted and nothing created, the job ends
// with [ErrImpatient]. It is safe for concurrent use.
func (j *Job) Full(e *tasks.BacklogError) {
	r := j.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < lookPause {
		return
	}
	r.looked = time.Now()
	counts, err := j.Book.Tally(r.ctx, j.Batch)
	if err != nil {
		return // the next row finds out
	}
	accepted := 0
	for _, n := range counts {
		accepted += n
	}
	if made := counts[request.Created]; r.since.IsZero() || accepted != r.accepted || made != r.made {
		r.accepted, r.made, r.since = accepted, made, r.looked
	}
	if time.Since(r.since) >= j.Patience {
		j.full = e
		r.stop(ErrImpatient)
	}
}
