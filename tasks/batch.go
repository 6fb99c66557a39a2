package tasks

import (
	"context"
	"iter"

	"github.com/kyclink/kyclink/internal/legible"
)

// MaxBatchName is the maximum length of a batch's name in bytes: the name may be a path.
const MaxBatchName = 4096

// Batch names a batch. Do not import into the same batch from two places at once.
type Batch struct {
	Name string
	// Options are defaults for the rows. The first import of a batch fixes them; later
	// imports leave them out or repeat them.
	Options Options
}

// Row is one row of a batch.
type Row struct {
	// Number is the number of the row in the input, from 1.
	Number  int
	Request Request
	// Validated reports that Request came from [ParseText] or [ParseRequest], or passed
	// [Request.Validate], and has not changed since. It is not validated again, which
	// saves a sixth of an import's work.
	Validated bool
}

func (r *Row) check(d destinations) error {
	if !r.Validated {
		return r.Request.check(d)
	}
	return invalid(d.problems(&r.Request))
}

// Rows numbers requests from 1.
func Rows(requests []Request) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for i, r := range requests {
			if !yield(Row{Number: i + 1, Request: r}, nil) {
				return
			}
		}
	}
}

// Acceptance is how an accepted row relates to what was accepted before.
type Acceptance string

// How a row was accepted.
const (
	Fresh    Acceptance = "fresh"    // it is accepted now
	Earlier  Acceptance = "again"    // an earlier import of the batch accepted it
	Repeated Acceptance = "repeated" // another row of the batch has the same ID
	Joined   Acceptance = "joined"   // the request was accepted in another batch, or without one
)

// Result is the result of one row.
type Result struct {
	Row Row
	// Link and Acceptance are set if Err is nil.
	Link       Link
	Acceptance Acceptance
	// Err is the error that [Client.Enqueue] would return.
	Err error
}

// EnqueueAll accepts the rows of a batch. It uses constant memory: at most several
// hundred rows are in progress. Rows that were accepted before stay as they are, so an
// interrupted import can simply be repeated. Requests without a lane are bulk.
//
// Row numbers must increase. An [*InvalidError] from rows becomes the result of its row.
// EnqueueAll calls done for every row, in order, on the goroutine of the caller, which
// also reads the rows. If a lane's backlog is full (see [Config].MaxBacklog), it calls
// [Config].OnFull and waits.
//
// Before it reads a row, EnqueueAll returns an [*InvalidError] for an invalid name or
// invalid options, and an [*OptionsError] if the batch has other options. It returns a
// [*CancelledError] if the batch is cancelled or becomes so. It also fails if rows
// returns another error, the numbers do not increase, Redis fails or ctx ends. Rows that
// have been accepted by then stay accepted.
func (c *Client) EnqueueAll(ctx context.Context, batch Batch, rows iter.Seq2[Row, error], done func(Result)) error {
	ctx, span := c.startAccept(ctx)
	defer span.End()
	err := c.enqueueAll(ctx, batch, rows, done)
	span.Failed(err, ReasonOf(err))
	return err
}

func (c *Client) enqueueAll(ctx context.Context, batch Batch, rows iter.Seq2[Row, error], done func(Result)) error {
	open, err := c.openBatch(ctx, batch)
	if err != nil {
		return err
	}
	w := chunkWriter{client: c, batch: open, done: done, ids: make(map[string]bool)}
	err = w.writeAll(ctx, batch.Name, rows)
	for len(w.chunks) > 0 {
		if chunkErr := w.finishOldest(); err == nil {
			err = chunkErr
		}
	}
	return err
}

// checkBatchName refuses names that cannot be displayed or typed.
func checkBatchName(name string) error {
	if problem := legible.WrongName(name, MaxBatchName); problem != "" {
		return &InvalidError{[]Problem{{"batch", "has a name that " + problem}}}
	}
	return nil
}
