package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/transfer"
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

// parseBatch returns the batch that the query names, with its defaults.
func (c *call) parseBatch() (tasks.Batch, error) {
	value, err := c.query(append(bulk.BatchKeys(), "batch")...)
	if err != nil {
		return tasks.Batch{}, err
	}
	if value("batch") == "" {
		return tasks.Batch{}, malformed("batch", "is required, as in /v1/batches?batch=spring")
	}
	batch, err := bulk.ParseBatch(value("batch"), value)
	if e, ok := errors.AsType[*tasks.InvalidError](err); ok {
		return tasks.Batch{}, invalid(http.StatusBadRequest, e.Problems)
	}
	return batch, err
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
	if err := a.imports.Begin(c.key); err != nil {
		return err
	}
	defer a.imports.End(c.key)
	if err := a.checkBatch(c, batch); err != nil {
		return err
	}
	ctx, stop := a.transfer(c)
	defer stop(nil)
	options := input.Options{Format: input.CSV, Encoding: charset, Strict: true}
	if media == ndjsonType {
		options.Format = input.NDJSON
	}
	body := a.bodyReader(ctx, c)
	in, err := input.ReadStream(body, "the body", options)
	if err != nil {
		return transferError(body, err)
	}
	defer func() { _ = in.Close() }() // it returns no error
	// Registered only after the header has arrived, so that an idle upload does not block
	// others.
	if !a.uploads.Begin(batch.Name) {
		return newProblem(http.StatusConflict, string(fault.Conflict), "Upload in progress",
			fmt.Sprintf("another request is uploading rows to batch %q; wait for its response", batch.Name))
	}
	defer a.uploads.End(batch.Name)
	return a.accept(ctx, stop, c, batch, in, body)
}

// accept accepts the rows and sends the response.
func (a *API) accept(ctx context.Context, stop context.CancelCauseFunc, c *call, batch tasks.Batch, in *input.File, body *transfer.Reader) error {
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
		return interrupted(transferError(body, err), response.Counts)
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
