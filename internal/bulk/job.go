package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/tasks"
)

// Book is what a job needs of the ledger.
type Book interface {
	Restore(ctx context.Context, batch string, records []record.Record) error
	Get(ctx context.Context, applicationID string) (record.Record, bool, error)
	Again(ctx context.Context, r record.Record) (record.Record, bool, error)
	Tally(ctx context.Context, batch string) (map[record.State]int, error)
}

// Job is the whole work on one file: every row is accepted, and written with
// what came of it. The links are made by whichever workers there are.
type Job struct {
	Input  *Input
	Batch  string
	Client *tasks.Client
	Book   Book
	// Journal is where the ledger is restored from; nil where it needs none.
	Journal *Journal
	// RetryFailed starts a new run of the rows that failed in an earlier one.
	RetryFailed bool
	// Patience is how long nothing may be created before Work stops waiting.
	Patience time.Duration
	// Report is called now and then, from one goroutine, with how far it is.
	Report func(Progress)
}

// Progress is how far a job is.
type Progress struct {
	Rows      int // read so far; all of them once Imported
	Imported  bool
	Rejected  int
	Counts    map[record.State]int // of the requests that this batch accepted
	Elsewhere int                  // rows that another batch or a signup owns and that have not ended
}

// Done is how many requests have ended or are held.
func (p Progress) Done() int {
	return p.Counts[record.Created] + p.Counts[record.Failed] + p.Counts[record.Cancelled] + p.Counts[record.Held]
}

// Open is how many requests are still to be waited for.
func (p Progress) Open() int {
	return p.Counts[record.Waiting] + p.Counts[record.Queued] + p.Counts[record.Calling] + p.Elsewhere
}

// ErrImpatient says that nothing was created for as long as the job was to wait.
var ErrImpatient = errors.New("nothing was created for too long")

const (
	lookRows  = 200                    // rows that are read from or put back into Redis at a time
	lookPause = 200 * time.Millisecond // between two looks at the batch
)

// Work puts back what the journal knows, accepts every row, and returns when
// all have ended or are held; with [ErrImpatient] where nothing was created for
// the job's patience, and with ctx's error where ctx ends first. Then the same
// job can be done again later: it goes on where this one stopped.
func (j *Job) Work(ctx context.Context) (Progress, error) {
	var p Progress
	if j.Journal != nil {
		if err := j.restore(ctx); err != nil {
			return p, err
		}
	}
	if j.RetryFailed {
		if err := j.retryFailed(ctx); err != nil {
			return p, err
		}
	}
	elsewhere, err := j.accept(ctx, &p)
	if err != nil {
		return p, err
	}
	return p, j.await(ctx, &p, elsewhere)
}

func (j *Job) restore(ctx context.Context) error {
	var page []record.Record
	flush := func() error {
		err := j.Book.Restore(ctx, j.Batch, page)
		page = page[:0]
		return err
	}
	for r, err := range j.Journal.Records() {
		if err != nil {
			return err
		}
		if page = append(page, r); len(page) == lookRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// retryFailed goes through the rows, not through the batch: what is no longer in
// the file is nobody's wish any more, and neither is what a row is refused for.
func (j *Job) retryFailed(ctx context.Context) error {
	return j.eachPage(func(page []Row) error {
		answers, err := j.look(ctx, page)
		if err != nil {
			return err
		}
		for _, a := range answers {
			if a.Err == nil && a.Link.Status == tasks.Failed {
				if err := j.again(ctx, a.Link.ApplicationID, a.Link.Generation); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// again starts a new run where the generation is the latest and still failed.
// One that is queued then has its task when its row is accepted.
func (j *Job) again(ctx context.Context, applicationID string, generation int) error {
	r, ok, err := j.Book.Get(ctx, applicationID)
	if err != nil || !ok || r.State != record.Failed || r.Generation != generation {
		return err
	}
	_, _, err = j.Book.Again(ctx, r)
	return err
}

// accept gives every good row to the ledger. It returns the ids that belong
// elsewhere and have not ended.
func (j *Job) accept(ctx context.Context, p *Progress) (map[string]tasks.Request, error) {
	elsewhere := map[string]tasks.Request{}
	var failure, reportErr error
	rows := func(yield func(tasks.Row) bool) {
		for row, err := range j.Input.Rows() {
			if err != nil {
				failure = err
				return
			}
			p.Rows++
			if row.Err != nil {
				p.Rejected++
				continue
			}
			if !yield(tasks.Row{Number: row.Number, Request: row.Request}) {
				return
			}
		}
	}
	reported := time.Now()
	err := j.Client.EnqueueAll(ctx, j.Batch, rows, func(row tasks.Row, link tasks.Link, err error) {
		switch {
		case err != nil:
			p.Rejected++
		case link.Batch != j.Batch && !settled(link):
			elsewhere[link.ApplicationID] = row.Request
		}
		if reportErr == nil && time.Since(reported) > lookPause {
			reported, reportErr = time.Now(), j.report(ctx, p)
		}
	})
	p.Elsewhere = len(elsewhere)
	p.Imported = err == nil && failure == nil
	return elsewhere, errors.Join(err, failure, reportErr)
}

func settled(l tasks.Link) bool { return l.Status.Ended() || l.Status == tasks.Held }

func (j *Job) report(ctx context.Context, p *Progress) error {
	counts, err := j.Book.Tally(ctx, j.Batch)
	if err != nil {
		return err
	}
	p.Counts = counts
	if j.Report != nil {
		j.Report(*p)
	}
	return nil
}

// await looks at the batch until nothing is open any more.
func (j *Job) await(ctx context.Context, p *Progress, elsewhere map[string]tasks.Request) error {
	made, since := 0, time.Now()
	for {
		if err := j.report(ctx, p); err != nil {
			return err
		}
		if p.Open() == p.Elsewhere && p.Elsewhere > 0 {
			if err := j.lookElsewhere(ctx, elsewhere); err != nil {
				return err
			}
			p.Elsewhere = len(elsewhere)
		}
		if p.Open() == 0 {
			return nil
		}
		if now := p.Counts[record.Created] - p.Elsewhere; now != made { // one that others own is over when it leaves
			made, since = now, time.Now()
		}
		if time.Since(since) >= j.Patience {
			return ErrImpatient
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookPause):
		}
	}
}

// lookElsewhere takes out what has ended.
func (j *Job) lookElsewhere(ctx context.Context, open map[string]tasks.Request) error {
	reqs := make([]tasks.Request, 0, lookRows)
	for _, req := range open {
		if reqs = append(reqs, req); len(reqs) == lookRows {
			break
		}
	}
	answers, err := j.Client.Look(ctx, reqs)
	if err != nil {
		return err
	}
	for i, a := range answers {
		if a.Err != nil || settled(a.Link) {
			delete(open, reqs[i].ApplicationID)
		}
	}
	return nil
}

// Summary is how many rows have which status.
type Summary map[tasks.Status]int

// Unfinished says that some row has no link.
func (s Summary) Unfinished() bool {
	for status, n := range s {
		if status != tasks.Created && n > 0 {
			return true
		}
	}
	return false
}

// Export reads the input once more and writes every row of it to out with what
// came of it, in constant memory.
func (j *Job) Export(ctx context.Context, out string) (Summary, error) {
	o, err := Create(out, j.Input)
	if err != nil {
		return nil, err
	}
	summary := Summary{}
	err = j.eachPage(func(page []Row) error {
		answers, err := j.look(ctx, page)
		if err != nil {
			return err
		}
		for i, row := range page {
			link, err := shown(row, answers[i])
			if err != nil {
				return err
			}
			summary[link.Status]++
			if err := o.Write(row, link); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = o.Commit()
	}
	if err != nil {
		return nil, errors.Join(err, o.Discard())
	}
	return summary, nil
}

// eachPage reads the input and calls do for every page of rows.
func (j *Job) eachPage(do func(page []Row) error) error {
	var page []Row
	for row, err := range j.Input.Rows() {
		if err != nil {
			return err
		}
		if page = append(page, row); len(page) == lookRows {
			if err := do(page); err != nil {
				return err
			}
			page = page[:0]
		}
	}
	return do(page)
}

// look gives what is known of each row.
func (j *Job) look(ctx context.Context, page []Row) ([]tasks.Answer, error) {
	answers := make([]tasks.Answer, len(page))
	var (
		reqs  []tasks.Request
		place []int
	)
	for i, row := range page {
		if row.Err != nil {
			answers[i].Err = row.Err
			continue
		}
		reqs, place = append(reqs, row.Request), append(place, i)
	}
	known, err := j.Client.Look(ctx, reqs)
	for k, a := range known {
		answers[place[k]] = a
	}
	return answers, err
}

// shown is what OUT says of a row.
func shown(row Row, a tasks.Answer) (tasks.Link, error) {
	if a.Err == nil {
		return a.Link, nil
	}
	if reason := tasks.ReasonOf(a.Err); reason != "" {
		return Rejection(fault.Reason(reason), a.Err.Error()), nil
	}
	return tasks.Link{}, fmt.Errorf("row %d, %s: %w", row.Number, row.Request.ApplicationID, a.Err)
}
