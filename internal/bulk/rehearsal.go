package bulk

import (
	"context"
	"errors"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// Rehearsal is what an import would do.
type Rehearsal struct {
	Counts Counts
	// Options are those that the batch has, or would get.
	Options tasks.Options
	// Expiries counts the rows that would be accepted by their expiry_minutes, 0
	// for the default's.
	Expiries map[int]int
}

// Rehearse reads and checks the file as [Import.Run] would, against what is
// accepted already, and changes nothing. Of rows with the same id it knows that
// they repeat one, and not whether their content differs.
func (i *Import) Rehearse(ctx context.Context) (Rehearsal, error) {
	r := Rehearsal{Expiries: make(map[int]int)}
	var err error
	if r.Options, err = i.Client.BatchOptions(ctx, i.Batch); err != nil {
		return r, err
	}
	seen := newRepeats("")
	defer seen.close()
	err = i.rehearse(ctx, &r, seen)
	if err == nil {
		err = seen.each(func(found repeat) {
			r.Counts.Repeated++
			switch found.how {
			case tasks.Fresh[0]:
				r.Counts.Accepted--
			case tasks.Earlier[0]:
				r.Counts.Again--
			case tasks.Joined[0]:
				r.Counts.Joined--
			}
		})
	}
	if i.Report != nil {
		i.Report(r.Counts)
	}
	return r, whyEnded(ctx, err)
}

func (i *Import) rehearse(ctx context.Context, r *Rehearsal, seen *repeats) error {
	var page []Row
	owners := newOwners()
	for row, err := range i.Input.Rows() {
		if err != nil {
			return err
		}
		if i.passOver(&row, owners, &r.Counts) {
			continue
		}
		i.suspect(row)
		if page = append(page, row); len(page) == lookRows {
			if err := i.rehearsePage(ctx, page, r, seen); err != nil {
				return err
			}
			page = page[:0]
		}
	}
	return i.rehearsePage(ctx, page, r, seen)
}

func (i *Import) rehearsePage(ctx context.Context, page []Row, r *Rehearsal, seen *repeats) error {
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
			result.Acceptance, result.Err = i.foresee(answers[0], row.Request, r.Options.NotAfter)
			answers = answers[1:]
		}
		if err := i.add(&r.Counts, result, row); err != nil {
			return err
		}
		if result.Err != nil {
			continue
		}
		if result.Acceptance == tasks.Fresh {
			r.Expiries[row.Request.ExpiryMinutes]++
		}
		if err := seen.add(row.Request.ApplicationID, row.Number, result.Acceptance); err != nil {
			return err
		}
	}
	return nil
}

// foresee tells what would become of a row.
func (i *Import) foresee(a tasks.Answer, req tasks.Request, notAfter time.Time) (tasks.Acceptance, error) {
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
