package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

// The number and the size of the rejected rows that a response lists.
const (
	maxRejects      = 100
	maxRejectsBytes = 256 << 10
)

// The media types of a batch.
const (
	csvType    = "text/csv"
	excelType  = "application/vnd.ms-excel" // what Windows sends for a CSV file
	ndjsonType = "application/x-ndjson"
)

// imported is the response to an upload.
type imported struct {
	Batch string `json:"batch"`
	bulk.Counts
	Rejected int `json:"rejected"`
	// Rejects lists the first rejected rows.
	Rejects []rejected `json:"rejects"`

	size int  // of Rejects, in bytes
	full bool // Rejects has no space left
}

type rejected struct {
	Row           int             `json:"row"`
	Line          int             `json:"line"`
	ApplicationID string          `json:"application_id,omitempty"`
	Reason        fault.Reason    `json:"reason"`
	Errors        []tasks.Problem `json:"errors"`
}

// list adds a rejected row if the response has space for it.
func (i *imported) list(r bulk.Reject) {
	if i.full || len(i.Rejects) == maxRejects {
		return
	}
	row := rejected{r.Row, r.Line, r.ApplicationID, r.Reason, r.Problems}
	size := len(encoded(row))
	if i.full = i.size+size > maxRejectsBytes; !i.full {
		i.size += size
		i.Rejects = append(i.Rejects, row)
	}
}

// uploads holds the names of the batches that are being uploaded to this process. Two
// uploads to one batch must not run at the same time.
type uploads struct {
	mu    sync.Mutex
	names map[string]bool
}

// begin registers an upload. It returns false if there is already one to the batch.
func (u *uploads) begin(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.names[name] {
		return false
	}
	u.names[name] = true
	return true
}

func (u *uploads) end(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.names, name)
}

// batchDefaults returns the keys for which a batch can have defaults.
func batchDefaults() []string {
	return []string{"redirect_url", "expiry_minutes", "document_optional", "workflow_id", "callback_url", "not_after"}
}

// parseBatch returns the batch that the query names, with its defaults.
func (c *call) parseBatch() (tasks.Batch, error) {
	value, err := c.query(append(batchDefaults(), "batch")...)
	if err != nil {
		return tasks.Batch{}, err
	}
	if value("batch") == "" {
		return tasks.Batch{}, malformed("batch", "is required, as in /v1/batches?batch=spring")
	}
	r, err := tasks.ParseText(func(key string) string {
		if key == "application_id" {
			return "-" // a placeholder
		}
		return value(key)
	})
	if e, ok := errors.AsType[*tasks.InvalidError](err); ok {
		return tasks.Batch{}, invalid(http.StatusBadRequest, e.Problems)
	}
	return tasks.Batch{Name: value("batch"), Options: tasks.Options{
		RedirectURL: r.RedirectURL, ExpiryMinutes: r.ExpiryMinutes, DocumentOptional: r.DocumentOptional,
		WorkflowID: r.WorkflowID, CallbackURL: r.CallbackURL, NotAfter: r.NotAfter,
	}}, err
}

// backlogTimeout is how long an upload continues after it first found a backlog full. An
// import from the command line waits for hours; an HTTP client does not.
const backlogTimeout = 20 * time.Second

// postBatch accepts the rows of a body as they arrive.
func (a *API) postBatch(c *call) error {
	batch, err := c.parseBatch()
	if err != nil {
		return err
	}
	media, charset, err := c.contentType(csvType, ndjsonType, excelType)
	if err != nil {
		return err
	}
	if c.r.ContentLength > a.MaxBody {
		return tooLarge(a.MaxBody)
	}
	if err := a.imports.begin(c.key); err != nil {
		return err
	}
	defer a.imports.end(c.key)
	if err := a.checkBatch(c, batch); err != nil {
		return err
	}
	ctx, stop := a.transfer(c)
	defer stop(nil)
	options := input.Options{Format: input.CSV, Encoding: charset, Strict: true}
	if media == ndjsonType {
		options.Format = input.NDJSON
	}
	body := &pacedReader{
		Reader: http.MaxBytesReader(c.ResponseWriter, c.r.Body, a.MaxBody), ctx: ctx, control: c.control, pace: pace{firstStall},
	}
	in, err := input.ReadStream(body, "the body", options)
	if err != nil {
		return inputError(cmp.Or(body.err, err))
	}
	defer func() { _ = in.Close() }() // it returns no error
	// Registered only after the header has arrived, so that an idle upload does not block
	// others.
	if !a.uploads.begin(batch.Name) {
		return newProblem(http.StatusConflict, string(fault.Conflict), "Upload in progress",
			fmt.Sprintf("another request is uploading rows to batch %q; wait for its response", batch.Name))
	}
	defer a.uploads.end(batch.Name)
	return a.accept(ctx, stop, c, batch, in, body)
}

// accept accepts the rows and sends the response.
func (a *API) accept(ctx context.Context, stop context.CancelCauseFunc, c *call, batch tasks.Batch, in *input.File, body *pacedReader) error {
	if err := a.record(ctx, c, "batches.import", batch.Name); err != nil {
		return err
	}
	var once sync.Once
	full := func(e *tasks.BacklogError) {
		once.Do(func() { time.AfterFunc(a.backlogTimeout, func() { stop(e) }) })
	}
	response := imported{Batch: batch.Name, Rejects: []rejected{}}
	job := &bulk.Import{Input: in, Batch: batch, Client: a.Importer(full).As(caller(c.key)), OnReject: func(r bulk.Reject) error {
		response.list(r)
		return nil
	}}
	var err error
	if response.Counts, err = job.Run(ctx); err != nil {
		// A failed read of the body also ends the context.
		return interrupted(inputError(cmp.Or(body.err, err)), response.Counts)
	}
	response.Rejected = response.Counts.Rejected()
	return c.json(http.StatusOK, response)
}

// checkBatch refuses a batch that cannot accept rows, before any row is read.
func (a *API) checkBatch(c *call, batch tasks.Batch) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	_, err := a.client(c).BatchOptions(ctx, batch)
	return err
}

// inputError converts an error about the body as a whole.
func inputError(err error) error {
	e, ok := errors.AsType[*input.Error](err)
	if _, known := errors.AsType[*problem](err); !ok || known {
		return err
	}
	if tooMuch, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooMuch
	}
	return malformed("", "the body: "+e.Problem)
}

// interrupted adds the counts of an interrupted import. Further rows may have been
// accepted without being counted.
func interrupted(err error, counts bulk.Counts) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	p := *problemOf(err)
	if counts.Rows > 0 || p.Status >= http.StatusInternalServerError {
		p.Detail += "; accepted rows stay accepted: send the same body again to continue"
	}
	if counts.Rows > 0 {
		p.Imported = &counts
	}
	return &p
}
