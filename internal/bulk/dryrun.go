package bulk

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

// DryRun is the predicted result of an import.
type DryRun struct {
	Counts Counts
	// Options are those that the batch has, or would get.
	Options tasks.Options
	// Expiries counts the rows that would be accepted by their expiry_minutes, 0 for
	// the default.
	Expiries map[int]int
	// FirstRepeat is the first row that has the ID of an earlier one, if there is any.
	FirstRepeat input.Duplicate
}

// pageRows is how many rows are looked up at a time.
const pageRows = 200

// DryRun reads and checks the file like [Import.Run], against what is accepted
// already, and changes nothing. It counts rows with the same id as repeated, and does
// not compare their content.
func (i *Import) DryRun(ctx context.Context) (DryRun, error) {
	d := DryRun{Expiries: make(map[int]int)}
	var err error
	if d.Options, err = i.Client.BatchOptions(ctx, i.Batch); err != nil {
		return d, i.closeRejects(err)
	}
	duplicates := input.NewDuplicates("")
	defer duplicates.Close()
	err = i.checkRows(ctx, &d, duplicates)
	if err == nil {
		err = duplicates.Each(func(found input.Duplicate) {
			d.Counts.Repeated++
			if d.FirstRepeat.Row == 0 || found.Row < d.FirstRepeat.Row {
				d.FirstRepeat = found
			}
			switch found.Label {
			case tasks.Fresh[0]:
				d.Counts.Accepted--
			case tasks.Earlier[0]:
				d.Counts.Again--
			case tasks.Joined[0]:
				d.Counts.Joined--
			}
		})
	}
	if i.OnProgress != nil {
		i.OnProgress(d.Counts)
	}
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
	}
	return d, i.closeRejects(err)
}

func (i *Import) checkRows(ctx context.Context, d *DryRun, duplicates *input.Duplicates) error {
	var page []input.Row
	for row, err := range i.rows(&d.Counts) {
		if err != nil {
			return err
		}
		if page = append(page, row); len(page) == pageRows {
			if err := i.checkPage(ctx, page, d, duplicates); err != nil {
				return err
			}
			page = page[:0]
		}
	}
	return i.checkPage(ctx, page, d, duplicates)
}

func (i *Import) checkPage(ctx context.Context, page []input.Row, d *DryRun, duplicates *input.Duplicates) error {
	var reqs []tasks.Request
	for _, row := range page {
		if row.Err == nil {
			reqs = append(reqs, row.Request)
		}
	}
	answers, err := i.Client.Preview(ctx, reqs)
	if err != nil {
		return err
	}
	for _, row := range page {
		result := tasks.Result{Row: tasks.Row{Number: row.Number, Request: row.Request}, Err: row.Err}
		if row.Err == nil {
			result.Acceptance, result.Err = i.predict(answers[0], row.Request, d.Options.NotAfter)
			answers = answers[1:]
		}
		if err := i.add(&d.Counts, result, row); err != nil {
			return err
		}
		if result.Err != nil {
			continue
		}
		if result.Acceptance == tasks.Fresh {
			d.Expiries[row.Request.ExpiryMinutes]++
		}
		if err := duplicates.Add(row.Request.ApplicationID, row.Number, result.Acceptance[0]); err != nil {
			return err
		}
	}
	return nil
}

// predict returns how a row would be accepted, or why not.
func (i *Import) predict(a tasks.Answer, req tasks.Request, notAfter time.Time) (tasks.Acceptance, error) {
	gap, isGap := errors.AsType[*tasks.GapError](a.Err)
	switch {
	case errors.Is(a.Err, tasks.ErrNotFound), isGap && gap.Want == gap.Latest+1 && gap.Status.Ended():
		if !req.NotAfter.IsZero() {
			notAfter = req.NotAfter
		}
		if !notAfter.IsZero() && !notAfter.After(time.Now()) {
			return "", &tasks.InvalidError{Problems: []tasks.Problem{{Key: "not_after", Message: "is in the past"}}}
		}
		return tasks.Fresh, nil
	case a.Err != nil:
		return "", a.Err
	case a.Link.Batch == i.Batch.Name:
		return tasks.Earlier, nil
	}
	return tasks.Joined, nil
}
