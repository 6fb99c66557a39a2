package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/job"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// lookout looks beside a run why no links are created: it says so in the bar and, when
// it lasts, in a line; and it ends a run that cannot get any.
type lookout struct {
	e     *engine
	bar   *progress
	batch string
	begun time.Time // by Redis' clock

	mu    sync.Mutex
	last  diagnosis.Snapshot
	quiet quiet
}

const (
	lookoutPause = time.Second      // between two looks
	lasts        = 2 * time.Second  // after which a line says what stands in the way
	calm         = 15 * time.Second // for which nothing is in the way before a line says that
)

func newLookout(ctx context.Context, e *engine, bar *progress, batch string) (*lookout, error) {
	now, err := e.ledger.Keys().Clock(ctx, e.rdb).Time()
	if err != nil {
		return nil, fmt.Errorf("read the time: %w", err)
	}
	return &lookout{e: e, bar: bar, batch: batch, begun: now}, nil
}

// run looks again and again until ctx ends. Its error says why the run cannot go on;
// what else fails is noticed, and waited for, by the job.
func (l *lookout) run(ctx context.Context) error {
	tick := time.NewTicker(lookoutPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, err := l.look(ctx)
		if err != nil {
			continue
		}
		if err := l.hopeless(ctx, s); err != nil {
			return err
		}
		obstacle := obstacle(s)
		l.bar.waits(obstacle)
		if line := l.quiet.see(time.Now(), obstacle, s.Why); line != "" {
			fmt.Fprintf(l.bar, "kyclink: %s\n", line)
		}
	}
}

func (l *lookout) look(ctx context.Context) (diagnosis.Snapshot, error) {
	s, err := diagnosis.Read(ctx, l.e.rdb, l.e.ledger)
	if err != nil {
		return s, err
	}
	b, ok, err := l.e.ledger.BatchNamed(ctx, l.batch)
	if ok {
		s.Batch = &b
	}
	if err == nil {
		l.mu.Lock()
		l.last = s
		l.mu.Unlock()
	}
	return s, err
}

// hopeless is the error of a run that a person must help. Credentials count only
// before the batch's first link, and by an answer that came since the run began:
// later they may be those of a rollout, and what was answered before may be settled.
func (l *lookout) hopeless(ctx context.Context, s diagnosis.Snapshot) error {
	if s.Batch != nil && s.Batch.Refused() != "" {
		return &rowsRefusedError{s.Batch.Refused(), s.Batch.Counts[request.Waiting] + s.Batch.Counts[request.Queued]}
	}
	if s.Gate.State != "closed" && s.Gate.State != "probing" || s.Gate.Reason != string(fault.Refused) {
		return nil
	}
	if s.Batch != nil && s.Batch.Counts[request.Created] > 0 {
		return nil
	}
	status, err := admission.Read(ctx, l.e.rdb, l.e.ledger.Keys())
	if err != nil {
		return nil //nolint:nilerr // it is looked at again
	}
	for _, r := range status.Refused {
		if r.Credential == l.e.cfg.FaceKi.Fingerprint() && !r.MessageAt.Before(l.begun) {
			return &refusedError{r.Message}
		}
	}
	return nil
}

// refusedError says that FaceKi refuses the credentials.
type refusedError struct{ message string }

func (e *refusedError) Error() string {
	foreign := fault.Fault{Kind: fault.NotFaceKi}
	if strings.HasPrefix(e.message, foreign.Means()) { // it says what to check, which is not the credentials
		return e.message + ". Correct that, then run the same command again"
	}
	return cmp.Or(e.message, "FaceKi refuses the account's credentials") +
		": check FACEKI_CLIENT_ID and FACEKI_CLIENT_SECRET, then run the same command again"
}

// rowsRefusedError says that FaceKi refuses the rows one after the other as wrong.
type rowsRefusedError struct {
	why  string
	open int
}

func (e *rowsRefusedError) Error() string {
	return fmt.Sprintf("stopped, because %s; %s not called. Correct the setting or the rows that are wrong, then run the same command again, "+
		"with --retry-failed for the rows that failed", e.why, verb(e.open, "1 row was", fmt.Sprintf("%d rows were", e.open)))
}

// letGoOn resumes a batch that was paused because its rows were refused as wrong: who
// runs the same command again has corrected that.
func (e *engine) letGoOn(ctx context.Context, name string) error {
	b, ok, err := e.ledger.BatchNamed(ctx, name)
	if ok && b.Refused() != "" {
		err = e.ledger.Steer(ctx, b, batch.Resume)
	}
	return err
}

// why is what stood in the way, while there was a worker, of a request that is open.
func (l *lookout) why(ctx context.Context, open tasks.Link) string {
	l.mu.Lock()
	s := l.last
	l.mu.Unlock()
	if s.Account == "" { // it never came to look
		return ""
	}
	if open.ApplicationID != "" {
		if about, err := s.About(ctx, l.e.ledger, open); err == nil {
			s = about
		}
	}
	return s.Why()
}

// obstacle is why nothing can be created now, in a few words; "" where something can.
func obstacle(s diagnosis.Snapshot) string {
	closed := s.Gate.State == "closed" || s.Gate.State == "probing"
	switch {
	case s.Workers == 0:
		return "no worker"
	case s.Batch != nil && s.Batch.Status == batch.Paused:
		return "batch paused"
	case closed && s.Gate.Reason == string(fault.Paused):
		return "account paused"
	case closed:
		return strings.TrimSuffix("gate closed: "+s.Gate.Reason, ": ")
	}
	return ""
}

// quiet makes one line of an obstacle however often it comes and goes.
type quiet struct {
	now            string    // the obstacle
	since, cleared time.Time // of the obstacle, or of there being none
	told           string
	times          int
}

// see gives the line that is due, "" for none.
func (q *quiet) see(at time.Time, obstacle string, why func() string) string {
	if obstacle != q.now {
		if q.now == "" && q.told != obstacle || q.since.IsZero() {
			q.since = at
		}
		if obstacle == "" {
			q.cleared = at
		} else {
			q.times++
		}
		q.now = obstacle
	}
	switch {
	case obstacle == "" && q.told == "" && at.Sub(q.cleared) >= calm:
		*q = quiet{}
	case obstacle != "" && obstacle != q.told && at.Sub(q.since) >= lasts:
		q.told = obstacle
		return "no link is created now: " + why()
	case obstacle == "" && q.told != "" && at.Sub(q.cleared) >= calm:
		line := fmt.Sprintf("links are created again, after %v", q.cleared.Sub(q.since).Round(time.Second))
		if q.times > 1 {
			line += fmt.Sprintf(" with %d interruptions", q.times)
		}
		*q = quiet{}
		return line
	}
	return ""
}

// work does the job with a worker and a lookout beside it, and returns when all are
// over.
func work(ctx context.Context, j *job.Job, w interface{ Run(context.Context) error }, beside *lookout) (job.Progress, error) {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	var failed, hopeless error
	group.Go(func() {
		if failed = w.Run(working); failed != nil {
			stop(failed)
		}
	})
	group.Go(func() {
		if hopeless = beside.run(working); hopeless != nil {
			stop(hopeless)
		}
	})
	progress, err := j.Work(working)
	stop(nil)
	group.Wait()
	if failed != nil {
		return progress, failed // which is also why the job ended
	}
	if hopeless != nil && !errors.Is(err, job.ErrImpatient) {
		return progress, hopeless
	}
	return progress, err
}
