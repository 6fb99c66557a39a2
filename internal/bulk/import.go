// Package bulk imports files as batches, and exports batches as files.
package bulk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/tasks"
)

// Import accepts the rows of a file as a batch. It makes no links; the workers do.
type Import struct {
	Input  *input.File
	Batch  tasks.Batch
	Client *tasks.Client
	// OnReject is called for every row that was not accepted, in order. Its error ends
	// the import.
	OnReject func(Reject) error
	// OnProgress is called repeatedly; it may be nil.
	OnProgress func(Counts)
	// IgnoreLinks accepts also rows that have a link already.
	IgnoreLinks bool
	// Rejects is the file for the rows that are not accepted, which the import completes
	// and closes. OnReject is not called then. It may be nil.
	Rejects *output.Rejects
	// OnRounded is called for the first row whose id [input.LooksRounded]; it may be
	// nil.
	OnRounded func(input.Row)
}

// Reject is a row that was not accepted.
type Reject struct {
	Row           int
	Line          int
	ApplicationID string // as far as it could be read
	Reason        fault.Reason
	Problems      []tasks.Problem // of columns, by their names in the file
}

func (r Reject) String() string {
	return fmt.Sprintf("row %d at line %d, %s: %s", r.Row, r.Line, r.Reason, r.Message())
}

// Message describes the problems of the row.
func (r Reject) Message() string { return (&tasks.InvalidError{Problems: r.Problems}).Error() }

// Counts are numbers of rows of a file by what the import did with them.
type Counts struct {
	Rows      int `json:"rows"`
	Accepted  int `json:"accepted"`  // by this import
	Again     int `json:"again"`     // by an earlier import of the batch
	Repeated  int `json:"repeated"`  // another row of the batch has the same id
	Joined    int `json:"joined"`    // accepted elsewhere first, in another batch or without one
	Conflicts int `json:"conflicts"` // accepted before with other content
	Refused   int `json:"refused"`   // the generation is not available now
	Invalid   int `json:"invalid"`
	Linked    int `json:"linked"` // skipped, as the file has a link for it
}

// Rejected returns the number of rows that were not accepted.
func (c Counts) Rejected() int { return c.Conflicts + c.Refused + c.Invalid }

// add counts a row that was accepted.
func (c *Counts) add(how tasks.Acceptance) {
	switch how {
	case tasks.Fresh:
		c.Accepted++
	case tasks.Earlier:
		c.Again++
	case tasks.Repeated:
		c.Repeated++
	case tasks.Joined:
		c.Joined++
	}
}

// progressRows is the number of rows between two calls of OnProgress.
const progressRows = 500

// Run accepts the file's valid rows. It also returns the counts if it fails: the same import
// can then be run again, and continues where this one stopped.
func (i *Import) Run(ctx context.Context) (Counts, error) {
	importing, stop := context.WithCancel(ctx)
	defer stop()
	var counts Counts
	var rejecting error
	var pending rowQueue // until their results, which come in the same order
	rows := func(yield func(tasks.Row, error) bool) {
		for row, err := range i.rows(&counts) {
			if err != nil {
				yield(tasks.Row{}, err)
				return
			}
			if row.Err != nil { // hundreds of rows are pending at a time, and an invalid one may be large
				row.Request = tasks.Request{ApplicationID: legible.Shorten(row.Request.ApplicationID)}
			}
			pending.add(i.keep(row))
			if !yield(tasks.Row{Number: row.Number, Request: row.Request, Validated: row.Err == nil}, row.Err) {
				return
			}
		}
	}
	err := i.Client.EnqueueAll(importing, i.Batch, rows, func(r tasks.Result) {
		if err := i.add(&counts, r, pending.take()); err != nil && rejecting == nil {
			rejecting = err
			stop()
		}
	})
	if i.OnProgress != nil {
		i.OnProgress(counts)
	}
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
	}
	return counts, i.closeRejects(cmp.Or(rejecting, err))
}

// rowQueue is a queue of rows, in memory that is used again.
type rowQueue struct {
	rows  []input.Row
	first int
}

func (q *rowQueue) add(row input.Row) {
	if q.first > 0 && len(q.rows) == cap(q.rows) {
		n := copy(q.rows, q.rows[q.first:])
		clear(q.rows[n:])
		q.rows, q.first = q.rows[:n], 0
	}
	q.rows = append(q.rows, row)
}

func (q *rowQueue) take() input.Row {
	row := q.rows[q.first]
	q.rows[q.first] = input.Row{} // its cells are garbage now
	q.first++
	return row
}

// closeRejects completes the file of rejected rows, and returns the error that ended the
// import, or else the file's.
func (i *Import) closeRejects(err error) error {
	if i.Rejects == nil {
		return err
	}
	return cmp.Or(err, i.Rejects.Close())
}

// rows gives the rows to accept. It counts those that keep a link and skips them.
func (i *Import) rows(counts *Counts) iter.Seq2[input.Row, error] {
	rows := i.Input.RowsWithLinks(false)
	if i.IgnoreLinks {
		rows = i.Input.Rows()
	}
	return func(yield func(input.Row, error) bool) {
		for row, err := range rows {
			if err == nil && row.KeepsLink() {
				counts.Rows++
				counts.Linked++
				continue
			}
			if err == nil && i.OnRounded != nil && input.LooksRounded(row.Request.ApplicationID) {
				i.OnRounded(row)
				i.OnRounded = nil
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// keep returns the part of a row that is needed until its result is known.
func (i *Import) keep(row input.Row) input.Row {
	if i.Rejects != nil {
		return row
	}
	return input.Row{Number: row.Number, Line: row.Line}
}

// add counts the result of a row.
func (i *Import) add(counts *Counts, r tasks.Result, row input.Row) error {
	if counts.Rows++; counts.Rows%progressRows == 0 && i.OnProgress != nil {
		i.OnProgress(*counts)
	}
	if r.Err == nil {
		counts.add(r.Acceptance)
		return nil
	}
	reject := i.reject(r, row)
	switch reject.Reason {
	case fault.Conflict:
		counts.Conflicts++
	case fault.Invalid:
		counts.Invalid++
	default:
		counts.Refused++
	}
	if i.Rejects != nil {
		return i.Rejects.Write(row, string(reject.Reason), reject.Message())
	}
	return i.OnReject(reject)
}

// reject describes a row that was not accepted, by the names that the file has for
// its columns.
func (i *Import) reject(r tasks.Result, row input.Row) Reject {
	reject := Reject{
		Row: row.Number, Line: row.Line, ApplicationID: r.Row.Request.ApplicationID, Reason: fault.Reason(tasks.ReasonOf(r.Err)),
	}
	var (
		invalid    *tasks.InvalidError
		conflict   *tasks.ConflictError
		foreign    *tasks.ForeignError
		unreadable *tasks.UnreadableError
	)
	switch {
	case errors.As(r.Err, &invalid):
		reject.Problems = append(reject.Problems, invalid.Problems...)
	case errors.As(r.Err, &conflict):
		for _, key := range conflict.Keys {
			reject.Problems = append(reject.Problems, tasks.Problem{Key: key, Message: "differs from what was accepted for this id before"})
		}
	case errors.As(r.Err, &foreign):
		reject.Problems = []tasks.Problem{{Key: column.ID, Message: foreign.Error()}}
	case errors.As(r.Err, &unreadable):
		reject.Problems = []tasks.Problem{{Key: column.ID, Message: unreadable.Error()}}
	default:
		reject.Problems = []tasks.Problem{{Key: "generation", Message: r.Err.Error()}}
	}
	for k, p := range reject.Problems {
		reject.Problems[k].Key = i.Input.Name(p.Key)
	}
	return reject
}
