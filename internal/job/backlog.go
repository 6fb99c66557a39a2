package job

import (
	"context"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// backlogWait is a job's wait for room in the backlog.
type backlogWait struct {
	job  *Job
	ctx  context.Context //nolint:containedctx // of the rows' acceptance, which stop ends
	stop context.CancelCauseFunc

	mu                sync.Mutex
	polled, since     time.Time
	accepted, created int
}

// OnFull is for the OnFull of the job's client. If the backlog is full, and for the
// job's patience no row was accepted and no link created, the job ends with
// [ErrImpatient]. It is safe for concurrent use.
func (j *Job) OnFull(e *tasks.BacklogError) {
	w := j.backlog
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.polled) < pollPause {
		return
	}
	w.polled = time.Now()
	counts, err := j.Stores.Batches.Counts(w.ctx, j.Batch)
	if err != nil {
		return // the next row fails as well
	}
	accepted := 0
	for _, n := range counts {
		accepted += n
	}
	if created := counts[request.Created]; w.since.IsZero() || accepted != w.accepted || created != w.created {
		w.accepted, w.created, w.since = accepted, created, w.polled
	}
	if time.Since(w.since) >= j.Patience {
		j.full = e
		w.stop(ErrImpatient)
	}
}
