// Package job does the whole work on one file in one process: it accepts every row, waits
// until the requests have ended, and writes the rows with their links. It continues from
// the journal of an interrupted run, and waits while Redis is unreachable.
//
// It makes no links itself; a worker in the same process does.
package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/journal"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// Job is the work on one file.
type Job struct {
	Input  *input.File
	Batch  string
	Client *tasks.Client
	Stores *storage.Stores
	// LedgerID is the id of the ledger that the job was begun with. With another ledger
	// nothing is accepted, as every link would be made again. It is empty for the embedded
	// Redis.
	LedgerID string
	// Journal is what the ledger is restored from; nil if it needs no restoring.
	Journal *journal.Journal
	// RetryFailed starts a new run for rows that failed in an earlier one.
	RetryFailed bool
	// RetryHeld retries held rows. Each may make, and bill, a second link.
	RetryHeld bool
	// OnRetryHeld is called before any held row is retried, with their number; it may
	// be nil.
	OnRetryHeld func(held int)
	// IgnoreLinks makes new links also for rows that have one already.
	IgnoreLinks bool
	// Simulated says that links are simulated. Otherwise a simulated link in a row
	// does not count.
	Simulated bool
	// Spreadsheet escapes cells of the output that a spreadsheet may evaluate.
	Spreadsheet bool
	// Patience is how long the job waits while no link is created, and how long it
	// retries a step that fails because of Redis.
	Patience time.Duration
	// OnProgress is called repeatedly, from one goroutine.
	OnProgress func(Progress)
	// OnRedisError is called when a step fails because of Redis and is retried.
	OnRedisError func(error)

	rows      int          // of the file; 0 before [Job.Scan]
	linkedIDs *ids         // of rows that have a link already; nil before [Job.Scan]
	backlog   *backlogWait // while rows are accepted
	full      error        // why rows were not accepted, if that ended the job
}

// Progress is the progress of a job.
type Progress struct {
	Rows        int // accepted or rejected so far; all rows once AllAccepted
	All         int // rows of the file; 0 if unknown
	AllAccepted bool
	Rejected    int                   // rows
	Counts      map[request.State]int // of the requests of this batch, also of rows that were removed since
	JoinedOpen  int                   // requests of other batches or signups that have not ended
	JoinedEnded int                   // requests of other batches or signups that have ended or are held
}

// Done is the number of requests that have ended or are held.
func (p Progress) Done() int {
	return p.Counts[request.Created] + p.Counts[request.Failed] + p.Counts[request.Cancelled] + p.Counts[request.Held] + p.JoinedEnded
}

// Open is the number of requests that the job still waits for.
func (p Progress) Open() int {
	return p.Counts[request.Waiting] + p.Counts[request.Queued] + p.Counts[request.Calling] + p.JoinedOpen
}

// Finished is the number of rows that need no more work.
func (p Progress) Finished() int { return max(0, p.Rows-p.Open()) }

// Total is the number of rows that are known so far.
func (p Progress) Total() int { return max(p.All, p.Rows) }

// ErrImpatient reports that no link was created for the job's patience.
var ErrImpatient = errors.New("nothing was created for too long")

const (
	pageRows  = 200                    // rows that are read from or restored into Redis at a time
	pollPause = 200 * time.Millisecond // between two polls of the batch
)

// Work restores the rows that the journal knows, accepts every row, and returns when
// all have ended or are held. It fails with [ErrImpatient] if no link was created for
// the job's patience, and with the cause of ctx's end if that comes first. A later Work
// continues where this one stopped.
func (j *Job) Work(ctx context.Context) (Progress, error) {
	var p Progress
	err := j.work(ctx, &p)
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
	}
	return p, err
}

func (j *Job) work(ctx context.Context, p *Progress) error {
	if j.Journal != nil {
		if err := j.restore(ctx); err != nil {
			return err
		}
	}
	if err := j.retry(ctx); err != nil {
		return err
	}
	var joined joined
	err := j.withRetries(ctx, func() (err error) {
		joined, err = j.accept(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	return j.await(ctx, p, joined)
}

// inputRows gives the rows of the input, with the links that they have already. A row
// without a link is refused if another row has a link for its id: accepting it would
// make, and bill, a second one.
func (j *Job) inputRows() iter.Seq2[input.Row, error] {
	if j.IgnoreLinks {
		return j.Input.Rows()
	}
	return func(yield func(input.Row, error) bool) {
		for row, err := range j.Input.RowsWithLinks(j.Simulated) {
			if err == nil && row.Link == nil && row.Err == nil && j.linkedIDs != nil && j.linkedIDs.has(row.Request.ApplicationID) {
				row.Err = &tasks.InvalidError{Problems: []tasks.Problem{{Key: j.idColumn(),
					Message: "is also in another row, which has a link already; use another id, or --again to make new links for all rows"}}}
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// eachPage reads the input and calls do for every page of rows.
func (j *Job) eachPage(ctx context.Context, do func(page []input.Row) error) error {
	var page []input.Row
	for row, err := range j.inputRows() {
		if err != nil {
			return err
		}
		if page = append(page, row); len(page) == pageRows {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := do(page); err != nil {
				return err
			}
			page = page[:0]
		}
	}
	return do(page)
}

// joined are requests of the job's rows that were accepted elsewhere first.
type joined struct {
	open  map[string]tasks.Request
	ended ids
}

func (o joined) count(p *Progress) { p.JoinedOpen, p.JoinedEnded = len(o.open), o.ended.len() }

// accept accepts every valid row, from the first one.
func (j *Job) accept(ctx context.Context, p *Progress) (joined, error) {
	o := joined{map[string]tasks.Request{}, newIDs()}
	p.Rows, p.Rejected, p.All = 0, 0, j.rows
	if err := j.checkLedger(ctx); err != nil {
		return o, err
	}
	linked := 0
	rows := func(yield func(tasks.Row, error) bool) {
		for row, err := range j.inputRows() {
			if err != nil {
				yield(tasks.Row{}, err)
				return
			}
			if row.KeepsLink() {
				linked++
				continue
			}
			if !yield(tasks.Row{Number: row.Number, Request: row.Request, Validated: row.Err == nil}, row.Err) {
				return
			}
		}
	}
	reported := time.Now()
	accepting, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	j.backlog = &backlogWait{job: j, ctx: accepting, stop: stop}
	err := j.Client.EnqueueAll(accepting, tasks.Batch{Name: j.Batch}, rows, func(r tasks.Result) {
		p.Rows++
		switch {
		case r.Err != nil:
			p.Rejected++
		case r.Acceptance == tasks.Joined && settled(r.Link):
			o.ended.add(r.Link.ApplicationID)
		case r.Acceptance == tasks.Joined:
			o.open[r.Link.ApplicationID] = r.Row.Request
		}
		if time.Since(reported) > pollPause {
			o.count(p)
			_ = j.report(ctx, p) // if Redis is unreachable, the next rows fail as well
			reported = time.Now()
		}
	})
	o.count(p)
	p.Rows += linked
	p.AllAccepted = err == nil
	if errors.Is(context.Cause(accepting), ErrImpatient) {
		err = errors.Join(ErrImpatient, j.report(ctx, p))
	}
	return o, err
}

// checkLedger refuses a Redis that lost its data.
func (j *Job) checkLedger(ctx context.Context) error {
	if j.LedgerID == "" {
		return nil
	}
	id, err := j.Stores.Fleet.ID(ctx)
	if err == nil && id != j.LedgerID {
		err = fmt.Errorf("batch %q: %w", j.Batch, errDataLost)
	}
	return err
}

func settled(l tasks.Link) bool { return l.Status.Ended() || l.Status == tasks.Held }

func (j *Job) report(ctx context.Context, p *Progress) error {
	counts, err := j.Stores.Batches.Counts(ctx, j.Batch)
	if err != nil {
		return err
	}
	p.Counts = counts
	if j.OnProgress != nil {
		j.OnProgress(*p)
	}
	return nil
}

// await polls the batch until nothing is open.
func (j *Job) await(ctx context.Context, p *Progress, o joined) error {
	created, since := 0, time.Now()
	for {
		begun := time.Now()
		if err := j.withRetries(ctx, func() error { return j.poll(ctx, p, o) }); err != nil {
			return err
		}
		since = since.Add(time.Since(begun)) // no link can be seen while Redis is unreachable
		if p.Open() == 0 {
			return nil
		}
		if now := p.Counts[request.Created] - p.JoinedOpen; now != created { // an ended joined request is progress, too
			created, since = now, time.Now()
		}
		if time.Since(since) >= j.Patience {
			return ErrImpatient
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollPause):
		}
	}
}

// poll reports the progress, and polls joined requests if nothing else is open.
func (j *Job) poll(ctx context.Context, p *Progress, o joined) error {
	if p.Open() == p.JoinedOpen && p.JoinedOpen > 0 {
		if err := j.pollJoined(ctx, o); err != nil {
			return err
		}
		o.count(p)
	}
	return j.report(ctx, p)
}

// pollJoined moves joined requests that have ended from open to ended.
func (j *Job) pollJoined(ctx context.Context, o joined) error {
	reqs := make([]tasks.Request, 0, pageRows)
	for _, req := range o.open {
		if reqs = append(reqs, req); len(reqs) == pageRows {
			break
		}
	}
	answers, err := j.Client.Preview(ctx, reqs)
	if err != nil {
		return err
	}
	for i, a := range answers {
		if id := reqs[i].ApplicationID; a.Err != nil || settled(a.Link) {
			delete(o.open, id)
			o.ended.add(id)
		}
	}
	return nil
}
