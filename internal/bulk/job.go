package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Book is what a job needs of the ledger.
type Book interface {
	ID(ctx context.Context) (string, error)
	Restore(ctx context.Context, batch string, records []request.Record) error
	Get(ctx context.Context, applicationID string) (request.Record, bool, error)
	Again(ctx context.Context, r request.Record) (request.Record, bool, error)
	Tally(ctx context.Context, batch string) (map[request.State]int, error)
}

// Job is the whole work on one file: every row is accepted, and written with
// what came of it. The links are made by whichever workers there are.
type Job struct {
	Input  *Input
	Batch  string
	Client *tasks.Client
	Book   Book
	// Ledger is the id of the ledger that the job was begun with: nothing is
	// accepted by another one, which would make every link anew. Empty where the
	// Redis is embedded.
	Ledger string
	// Journal is where the ledger is restored from; nil where it needs none.
	Journal *Journal
	// RetryFailed starts a new run of the rows that failed in an earlier one.
	RetryFailed bool
	// RetryHeld lets the rows go on that are held. Each may make and bill a second
	// link.
	RetryHeld bool
	// Retrying is called before any held row goes on, with how many will; nil: nobody
	// wants to know.
	Retrying func(held int)
	// Again makes links for the rows that have one already; see [Survey].
	Again bool
	// Simulated says that the links are. Otherwise a row that has a simulated link
	// has none.
	Simulated bool
	// Spreadsheet lets no cell of OUT be taken for a formula.
	Spreadsheet bool
	// Patience is how long nothing may be created before Work stops waiting, and
	// how long Redis may fail a step before the job does.
	Patience time.Duration
	// Report is called now and then, from one goroutine, with how far it is.
	Report func(Progress)
	// Trouble is called when Redis begins to fail a step that is then tried again.
	Trouble func(error)

	all    int   // rows of the file; 0 before [Job.Survey]
	linked *ids  // of the rows that have a link already; nil before [Job.Survey]
	room   *room // while rows are accepted
	full   error // why rows were not accepted when the patience was over
}

// Progress is how far a job is.
type Progress struct {
	Rows      int // that were accepted or refused so far; all of them once Imported
	All       int // rows of the file; 0 where that is not known
	Imported  bool
	Rejected  int                   // rows
	Counts    map[request.State]int // of the requests that this batch accepted, also by rows that are gone
	Elsewhere int                   // requests that another batch or a signup owns and that have not ended
	Others    int                   // requests that another batch or a signup owns and that have ended or are held
}

// Done is how many requests have ended or are held.
func (p Progress) Done() int {
	return p.Counts[request.Created] + p.Counts[request.Failed] + p.Counts[request.Cancelled] + p.Counts[request.Held] + p.Others
}

// Open is how many requests are still to be waited for.
func (p Progress) Open() int {
	return p.Counts[request.Waiting] + p.Counts[request.Queued] + p.Counts[request.Calling] + p.Elsewhere
}

// Settled is for how many rows there is nothing more to do.
func (p Progress) Settled() int { return max(0, p.Rows-p.Open()) }

// Total is how many rows there are, as far as that is known.
func (p Progress) Total() int { return max(p.All, p.Rows) }

// ErrImpatient says that nothing was created for as long as the job was to wait.
var ErrImpatient = errors.New("nothing was created for too long")

const (
	lookRows  = 200                    // rows that are read from or put back into Redis at a time
	lookPause = 200 * time.Millisecond // between two looks at the batch
)

// Work puts back what the journal knows of the rows, accepts every row, and
// returns when all have ended or are held; with [ErrImpatient] where nothing was
// created for the job's patience, and with the cause of ctx's end where that
// comes first, whatever it interrupted. A Redis that is away is waited for, for
// the job's patience. Then the same job can be done again later: it goes on where
// this one stopped.
func (j *Job) Work(ctx context.Context) (Progress, error) {
	var p Progress
	err := j.work(ctx, &p)
	return p, whyEnded(ctx, err)
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
	var o others
	err := j.insist(ctx, func() (err error) {
		o, err = j.accept(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	return j.await(ctx, p, o)
}

// restore passes over what no good row asks for any more: a link for it would be
// paid for, and nobody would want it. What has a link already is put back for wrong
// rows too, and is shown with them.
func (j *Job) restore(ctx context.Context) error {
	var (
		asked *asked
		page  []request.Record
	)
	flush := func() error {
		err := j.insist(ctx, func() error { return j.Book.Restore(ctx, j.Batch, page) })
		page = page[:0]
		return err
	}
	for r, err := range j.Journal.Records() {
		if err == nil && asked == nil {
			asked, err = j.asked(ctx)
		}
		if err != nil {
			return err
		}
		if !asked.good.has(r.ApplicationID) && (r.State != request.Created || !asked.other.has(r.ApplicationID)) {
			continue
		}
		if page = append(page, r); len(page) == lookRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// asked are the ids of good rows, and those of rows that are wrong or have a link in
// the input.
type asked struct{ good, other ids }

func (j *Job) asked(ctx context.Context) (*asked, error) {
	a := &asked{newIDs(), newIDs()}
	err := j.eachPage(ctx, func(page []Row) error {
		for _, row := range page {
			if row.Err == nil && row.linked == nil {
				a.good.add(row.Request.ApplicationID)
			} else {
				a.other.add(row.Request.ApplicationID)
			}
		}
		return nil
	})
	return a, err
}

// others is what this job's rows ask for and somebody else asked for before.
type others struct {
	open  map[string]tasks.Request
	ended ids
}

func (o others) count(p *Progress) { p.Elsewhere, p.Others = len(o.open), len(o.ended.hashes) }

// accept gives every good row to the ledger, from the first one on.
func (j *Job) accept(ctx context.Context, p *Progress) (others, error) {
	o := others{map[string]tasks.Request{}, newIDs()}
	p.Rows, p.Rejected, p.All = 0, 0, j.all
	if err := j.sameLedger(ctx); err != nil {
		return o, err
	}
	linked := 0
	rows := func(yield func(tasks.Row, error) bool) {
		for row, err := range j.rows() {
			if err != nil {
				yield(tasks.Row{}, err)
				return
			}
			if row.keeps() {
				linked++
				continue
			}
			if !yield(tasks.Row{Number: row.Number, Request: row.Request, Validated: row.Err == nil}, row.Err) {
				return
			}
		}
	}
	reported := time.Now()
	going, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	j.room = &room{job: j, ctx: going, stop: stop}
	err := j.Client.EnqueueAll(going, tasks.Batch{Name: j.Batch}, rows, func(r tasks.Result) {
		p.Rows++
		switch {
		case r.Err != nil:
			p.Rejected++
		case r.Acceptance == tasks.Joined && settled(r.Link):
			o.ended.add(r.Link.ApplicationID)
		case r.Acceptance == tasks.Joined:
			o.open[r.Link.ApplicationID] = r.Row.Request
		}
		if time.Since(reported) > lookPause {
			o.count(p)
			_ = j.report(ctx, p) // a Redis that fails it fails the next rows as well
			reported = time.Now()
		}
	})
	o.count(p)
	p.Rows += linked
	p.Imported = err == nil
	if errors.Is(context.Cause(going), ErrImpatient) {
		err = errors.Join(ErrImpatient, j.report(ctx, p))
	}
	return o, err
}

// sameLedger notices a Redis that came back without its data.
func (j *Job) sameLedger(ctx context.Context) error {
	if j.Ledger == "" {
		return nil
	}
	id, err := j.Book.ID(ctx)
	if err == nil && id != j.Ledger {
		err = fmt.Errorf("batch %q: %w", j.Batch, errForgotten)
	}
	return err
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
func (j *Job) await(ctx context.Context, p *Progress, o others) error {
	made, since := 0, time.Now()
	for {
		asked := time.Now()
		if err := j.insist(ctx, func() error { return j.see(ctx, p, o) }); err != nil {
			return err
		}
		since = since.Add(time.Since(asked)) // while Redis is away nobody could see a link
		if p.Open() == 0 {
			return nil
		}
		if now := p.Counts[request.Created] - p.Elsewhere; now != made { // one that others own is over when it leaves
			made, since = now, time.Now()
		}
		if time.Since(since) >= j.Patience {
			return ErrImpatient
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookPause):
		}
	}
}

// see looks at what others own when nothing else is open, and reports.
func (j *Job) see(ctx context.Context, p *Progress, o others) error {
	if p.Open() == p.Elsewhere && p.Elsewhere > 0 {
		if err := j.lookElsewhere(ctx, o); err != nil {
			return err
		}
		o.count(p)
	}
	return j.report(ctx, p)
}

// lookElsewhere moves what has ended.
func (j *Job) lookElsewhere(ctx context.Context, o others) error {
	reqs := make([]tasks.Request, 0, lookRows)
	for _, req := range o.open {
		if reqs = append(reqs, req); len(reqs) == lookRows {
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
