package bulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

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

// Written is what OUT holds.
type Written struct {
	Summary
	// Linked is how many rows had a link in the input, and were not accepted.
	Linked int
	// Open is what the first row asks for that has not ended and is not held; zero
	// where there is none.
	Open tasks.Link
}

// Export reads the input once more and writes every row of it to out with what
// came of it, in constant memory. As with [Job.Work], Redis may be away for the
// job's patience, and where ctx ends first the error is its cause; then out is
// what it was before.
func (j *Job) Export(ctx context.Context, out string) (Written, error) {
	written, err := j.export(ctx, out)
	return written, whyEnded(ctx, err)
}

func (j *Job) export(ctx context.Context, out string) (Written, error) {
	o, err := Create(out, j.Input, j.Spreadsheet)
	if err != nil {
		return Written{}, err
	}
	written := Written{Summary: Summary{}}
	err = j.eachPage(ctx, func(page []Row) error {
		answers, err := j.look(ctx, page)
		if err != nil {
			return err
		}
		for i, row := range page {
			link, err := j.shown(row, answers[i])
			if err != nil {
				return err
			}
			written.Summary[link.Status]++
			if row.keeps() {
				written.Linked++
			}
			if written.Open.Status == "" && link.Status != Rejected && !settled(link) {
				written.Open = link
			}
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
		return Written{}, errors.Join(err, o.Discard())
	}
	return written, nil
}

// eachPage reads the input and calls do for every page of rows.
func (j *Job) eachPage(ctx context.Context, do func(page []Row) error) error {
	var page []Row
	for row, err := range j.rows() {
		if err != nil {
			return err
		}
		if page = append(page, row); len(page) == lookRows {
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

// look gives what is known of each row. Of one that is wrong it is what is known of
// its id, as far as that could be read.
func (j *Job) look(ctx context.Context, page []Row) ([]tasks.Answer, error) {
	reqs := make([]tasks.Request, len(page))
	for i, row := range page {
		if reqs[i] = row.Request; row.Err != nil || row.linked != nil {
			reqs[i] = tasks.Request{ApplicationID: row.Request.ApplicationID}
		}
	}
	var answers []tasks.Answer
	err := j.insist(ctx, func() (err error) {
		answers, err = j.Client.Preview(ctx, reqs)
		return err
	})
	for i := range answers {
		if page[i].Err != nil {
			answers[i].Err = page[i].Err
		}
	}
	return answers, err
}

// shown is what OUT says of a row.
func (j *Job) shown(row Row, a tasks.Answer) (tasks.Link, error) {
	if row.linked != nil && a.Link.URL == "" {
		a.Link = *row.linked
	}
	if a.Err == nil || row.keeps() {
		return a.Link, nil
	}
	if reason := tasks.ReasonOf(a.Err); reason != "" {
		return Rejection(fault.Reason(reason), a.Err.Error(), a.Link), nil
	}
	err := a.Err
	if errors.Is(err, tasks.ErrNotFound) && j.full != nil {
		return Rejection(fault.BacklogFull, j.full.Error(), tasks.Link{}), nil //nolint:nilerr // the row was not accepted, which is its answer
	}
	if errors.Is(err, tasks.ErrNotFound) { // it was accepted before
		err = errForgotten
	}
	return tasks.Link{}, fmt.Errorf("row %d, %s: %w", row.Number, row.Request.ApplicationID, err)
}
