package console

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/tasks"
)

// importedData is the result of an import.
type importedData struct {
	Batch  string
	Counts bulk.Counts
	rejects
}

// unchecked returns why a file must be checked first; "" if it was checked with the same
// settings.
func (u *upload) unchecked() string {
	switch {
	case u.form.Get("checked_file") == "":
		return "Nothing was imported yet, because the file was not checked. This is its check."
	case u.form.Get("checked_file") != u.digest:
		return "Nothing was imported: this is another file than the one that was checked. This is the check of the new file."
	case u.form.Get("checked_settings") != u.settings():
		return "Nothing was imported yet: the settings were changed after the check. This is the check with the new settings."
	}
	return ""
}

// backlogTimeout is how long an import continues after it first found a backlog full.
const backlogTimeout = 20 * time.Second

// importUpload imports a file that was checked before. The import goes on if the browser
// leaves.
func (c *Console) importUpload(ctx context.Context, v *visit) error {
	u, err := c.receive(ctx, v)
	if err != nil {
		return err
	}
	defer u.remove()
	if notice := u.unchecked(); notice != "" {
		return c.showCheck(ctx, v, u, http.StatusConflict, notice)
	}
	importing, stop := c.transfer(context.WithoutCancel(ctx), v)
	defer stop(nil)
	var once sync.Once
	job, err := c.job(v, u, func(e *tasks.BacklogError) {
		once.Do(func() { time.AfterFunc(c.backlogTimeout, func() { stop(e) }) })
	})
	u.remove() // the file stays open
	if err == nil {
		defer func() { _ = job.Input.Close() }() // it was read only
		_, err = job.Client.BatchOptions(ctx, job.Batch)
	}
	if problem := problemOf(u, err); problem != "" {
		return c.show(v, http.StatusUnprocessableEntity, "upload", "Import a batch", uploadData{Form: u.form.Get, Limit: c.MaxBody, Problem: problem})
	}
	if err != nil {
		return err
	}
	if !c.importing.Begin(job.Batch.Name) {
		return &pageError{http.StatusConflict, "Import in progress", "Another import to the batch " + quoted(job.Batch.Name) + " is in progress. Wait until it has ended."}
	}
	defer c.importing.End(job.Batch.Name)
	if err := c.record(ctx, v, "batches.import", job.Batch.Name); err != nil {
		return err
	}
	result := &importedData{Batch: job.Batch.Name}
	job.OnReject = result.add
	if result.Counts, err = job.Run(importing); err != nil {
		return c.interrupted(u, v, result.Counts, err)
	}
	d := uploadData{Form: u.form.Get, Limit: c.MaxBody, File: c.describe(u, job), Result: result}
	return c.show(v, http.StatusOK, "upload", "Imported", d)
}

// interrupted explains why an import ended before the end of its file.
func (c *Console) interrupted(u *upload, v *visit, counts bulk.Counts, err error) error {
	shown := &pageError{http.StatusServiceUnavailable, "Import interrupted", "Redis did not answer."}
	if page, ok := errors.AsType[*pageError](err); ok {
		shown.Status, shown.Text = page.Status, page.Text
	} else if full, ok := errors.AsType[*tasks.BacklogError](err); ok {
		shown.Text = "The backlog of the " + string(full.Lane) + " lane is full (KYCLINK_MAX_BACKLOG)."
	} else if problem := problemOf(u, err); problem != "" {
		shown.Status, shown.Text = http.StatusUnprocessableEntity, problem
	} else {
		c.Log.Warn("import interrupted", zap.String("request_id", v.requestID()), zap.Error(err))
	}
	shown.Text = strings.TrimRight(shown.Text, ".") + ". " + counted(counts.Rows, "row was", "rows were") +
		" processed. Accepted rows stay accepted: import the same file into the same batch again to continue."
	return shown
}

// downloadRejects sends the rows of a file that are not accepted, or would not be, with the
// reasons. They are not stored between two requests, so that the file is read again.
func (c *Console) downloadRejects(ctx context.Context, v *visit) error {
	u, err := c.receive(ctx, v)
	if err != nil {
		return err
	}
	defer u.remove()
	job, err := c.job(v, u, nil)
	if err == nil {
		defer func() { _ = job.Input.Close() }() // it was read only
		job.OnReject = func(bulk.Reject) error { return nil }
		job.Rejects, err = output.CreateRejects(filepath.Join(u.dir, "rejects."+string(job.Input.Format())), job.Input, false)
	}
	var result bulk.DryRun
	if err == nil {
		result, err = job.DryRun(ctx)
	}
	if problem := problemOf(u, err); problem != "" {
		return &pageError{http.StatusUnprocessableEntity, "File cannot be used", problem}
	}
	if err != nil {
		return c.fileError(err)
	}
	if result.Counts.Rejected() == 0 {
		return &pageError{http.StatusConflict, "No rejected rows", "Every row of the file is accepted, or was accepted before."}
	}
	name := strings.TrimSuffix(u.name, filepath.Ext(u.name)) + "-rejects." + string(job.Input.Format())
	return c.sendFile(ctx, v, filepath.Join(u.dir, "rejects."+string(job.Input.Format())), name, input.FormatOf(name))
}
