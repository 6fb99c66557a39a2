package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/tasks"
)

// rejects are the first rows that are not accepted.
type rejects struct {
	Rows []bulk.Reject
	size int
}

const (
	mostRejects      = 100
	mostRejectsBytes = 24 << 10 // of a page, which has markup as well
	mostMessage      = 300      // characters
	mostColumns      = 60
	mostColumnBytes  = 1500 // of their names, which are on the page once for each key
)

// add lists a row if the page has space for it.
func (r *rejects) add(row bulk.Reject) error {
	row.Problems = slices.Clone(row.Problems[:min(len(row.Problems), 3)])
	size := len(row.ApplicationID)
	for i, p := range row.Problems {
		row.Problems[i] = tasks.Problem{Key: legible.Shorten(p.Key), Message: legible.Truncate(p.Message, mostMessage)}
		size += len(row.Problems[i].Key) + len(row.Problems[i].Message)
	}
	row.ApplicationID = legible.Shorten(row.ApplicationID)
	if r.size += size; len(r.Rows) < mostRejects && r.size <= mostRejectsBytes {
		r.Rows = append(r.Rows, row)
	}
	return nil
}

// checkedData is the result of a check.
type checkedData struct {
	bulk.DryRun
	rejects
	// Existing is the batch to which the rows are added; nil if it is new.
	Existing *batch.Batch
	// Forecast is nil if the account has no rate yet.
	Forecast *operator.Forecast
	Now      time.Time
	// Rounded is the first row whose ID looks like a rounded number, if there is any.
	Rounded *input.Row
}

// checkUpload shows what an import of the file would do, and changes nothing.
func (c *Console) checkUpload(ctx context.Context, v *visit) error {
	u, err := c.receive(ctx, v)
	if err != nil {
		return err
	}
	defer u.remove()
	return c.showCheck(ctx, v, u, http.StatusOK, "")
}

// showCheck checks a file. A notice says why it was not imported.
func (c *Console) showCheck(ctx context.Context, v *visit, u *upload, status int, notice string) error {
	d := uploadData{Form: u.form.Get, Limit: c.MaxBody, Notice: notice}
	job, err := c.job(v, u, nil)
	u.remove() // the file stays open
	if err == nil {
		defer func() { _ = job.Input.Close() }() // it was read only
		d.File, d.Columns = c.describe(u, job), columnChoices(job.Input.Layout().Columns, u.form.Get)
		d.Checked, err = c.check(ctx, job)
	}
	if err != nil {
		if d.Problem, status = problemOf(u, err), http.StatusUnprocessableEntity; d.Problem == "" {
			return err
		}
		if e, ok := errors.AsType[*input.Error](err); ok && d.Columns == nil {
			u.guess(e.Columns)
			d.Columns = columnChoices(columnsOf(e.Columns), u.form.Get)
		}
	}
	return c.show(v, status, "upload", "Import a batch", d)
}

// job returns the import of a file. Its errors are those that [problemOf] explains.
func (c *Console) job(v *visit, u *upload, onFull func(*tasks.BacklogError)) (*bulk.Import, error) {
	into, err := u.batch()
	if err != nil {
		return nil, err
	}
	in, err := u.open()
	if err != nil {
		return nil, err
	}
	u.settle(into, in)
	key := v.session.key // without the scope read nobody is signed in
	client := c.Importer(onFull).As(tasks.Caller{ID: key.ID, OnlyOwn: !key.Allows(apikey.Read), RedirectHosts: key.RedirectHosts})
	return &bulk.Import{Input: in, Batch: into, Client: client}, nil
}

// check reads the whole file.
func (c *Console) check(ctx context.Context, job *bulk.Import) (*checkedData, error) {
	d := &checkedData{}
	job.OnReject = d.add
	job.OnRounded = func(row input.Row) { d.Rounded = &row }
	var err error
	if d.DryRun, err = job.DryRun(ctx); err != nil {
		return nil, err
	}
	if d.Now, err = c.operator.Now(ctx); err != nil {
		return nil, err
	}
	if b, ok, err := c.Stores.Batches.ByName(ctx, job.Batch.Name); err != nil {
		return nil, err
	} else if ok {
		d.Existing = &b
	}
	planned := operator.Planned{Rows: d.Counts.Accepted, Expiries: d.Expiries, DefaultExpiry: d.Options.ExpiryMinutes, NotAfter: d.Options.NotAfter}
	if planned.DefaultExpiry == 0 {
		planned.DefaultExpiry = c.ExpiryMinutes
	}
	if account, err := c.Stores.Account.Status(ctx); err != nil || account.Rate.Limit == "" {
		return d, err
	}
	f, err := c.operator.Forecast(ctx, planned)
	d.Forecast = &f
	return d, err
}

// problemOf explains why a file cannot be imported, or returns "" for an error that says
// nothing about the file.
func problemOf(u *upload, err error) string {
	if e, ok := errors.AsType[*input.Error](err); ok {
		return legible.Shorten(u.name) + ": " + e.Reason()
	}
	_, invalid := errors.AsType[*tasks.InvalidError](err)
	_, options := errors.AsType[*tasks.OptionsError](err)
	_, cancelled := errors.AsType[*tasks.CancelledError](err)
	_, foreign := errors.AsType[*tasks.ForeignError](err)
	if invalid || options || cancelled || foreign {
		return err.Error()
	}
	return ""
}
