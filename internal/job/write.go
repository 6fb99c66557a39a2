package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/tasks"
)

// Written describes the contents of the output file.
type Written struct {
	output.Counts
	// Linked is how many rows had a link in the input, and were not accepted.
	Linked int
	// Open is the link of the first row whose request has not ended and is not held;
	// zero if there is none.
	Open tasks.Link
}

// Write reads the input once more and writes every row to out with its link, in
// constant memory. Like [Job.Work] it waits while Redis is unreachable, and returns the
// cause of ctx's end if that comes first; then out is as before.
func (j *Job) Write(ctx context.Context, out string) (Written, error) {
	written, err := j.write(ctx, out)
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
	}
	return written, err
}

func (j *Job) write(ctx context.Context, out string) (Written, error) {
	results, err := output.Create(out, j.Input, j.Spreadsheet)
	if err != nil {
		return Written{}, err
	}
	written := Written{Counts: output.Counts{}}
	err = j.eachPage(ctx, func(page []input.Row) error {
		answers, err := j.lookUp(ctx, page)
		if err != nil {
			return err
		}
		for i, row := range page {
			link, err := j.link(row, answers[i])
			if err != nil {
				return err
			}
			written.Counts[link.Status]++
			if row.KeepsLink() {
				written.Linked++
			}
			if written.Open.Status == "" && link.Status != column.Rejected && !settled(link) {
				written.Open = link
			}
			if err := results.Write(row, link); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = results.Commit()
	}
	if err != nil {
		return Written{}, errors.Join(err, results.Discard())
	}
	return written, nil
}

// lookUp returns the link of each row. For an invalid row it is the link of its id, if the
// id could be read.
func (j *Job) lookUp(ctx context.Context, page []input.Row) ([]tasks.Answer, error) {
	reqs := make([]tasks.Request, len(page))
	for i, row := range page {
		if reqs[i] = row.Request; row.Err != nil || row.Link != nil {
			reqs[i] = tasks.Request{ApplicationID: row.Request.ApplicationID}
		}
	}
	var answers []tasks.Answer
	err := j.withRetries(ctx, func() (err error) {
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

// link returns what the output shows of a row.
func (j *Job) link(row input.Row, a tasks.Answer) (tasks.Link, error) {
	if row.Link != nil && a.Link.URL == "" {
		a.Link = *row.Link
	}
	if a.Err == nil || row.KeepsLink() {
		return a.Link, nil
	}
	if reason := tasks.ReasonOf(a.Err); reason != "" {
		return column.Rejection(fault.Reason(reason), a.Err.Error(), a.Link), nil
	}
	err := a.Err
	if errors.Is(err, tasks.ErrNotFound) && j.full != nil {
		return column.Rejection(fault.BacklogFull, j.full.Error(), tasks.Link{}), nil //nolint:nilerr // the rejection says so
	}
	if errors.Is(err, tasks.ErrNotFound) { // it was accepted before
		err = errDataLost
	}
	return tasks.Link{}, fmt.Errorf("row %d, %s: %w", row.Number, row.Request.ApplicationID, err)
}
