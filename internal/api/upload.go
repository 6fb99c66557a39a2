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

// How many of the rows that were not accepted an answer lists, and in how many bytes.
const (
	toldRejects      = 100
	toldRejectsBytes = 256 << 10
)

// The types of a batch's body.
const (
	csvType    = "text/csv"
	excelType  = "application/vnd.ms-excel" // which Windows gives for a CSV
	ndjsonType = "application/x-ndjson"
)

// imported is what became of an upload.
type imported struct {
	Batch string `json:"batch"`
	bulk.Counts
	Rejected int `json:"rejected"`
	// Rejects are the first of them.
	Rejects []rejected `json:"rejects"`

	listed int  // bytes of Rejects
	full   bool // Rejects has no room for the next one
}

type rejected struct {
	Row           int             `json:"row"`
	Line          int             `json:"line"`
	ApplicationID string          `json:"application_id,omitempty"`
	Reason        fault.Reason    `json:"reason"`
	Errors        []tasks.Problem `json:"errors"`
}

// list adds a row that was not accepted, as long as the answer has room for it.
func (i *imported) list(r bulk.Reject) {
	if i.full || len(i.Rejects) == toldRejects {
		return
	}
	row := rejected{r.Row, r.Line, r.ApplicationID, r.Reason, r.Problems}
	size := len(encoded(row))
	if i.full = i.listed+size > toldRejectsBytes; !i.full {
		i.listed += size
		i.Rejects = append(i.Rejects, row)
	}
}

// uploads are the batches that are being sent to this process: a name must not be
// imported from two places at once.
type uploads struct {
	mu    sync.Mutex
	names map[string]bool
}

// begin says whether nobody else is at it.
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

// batchDefaults are the keys of a request that a batch can have defaults for.
func batchDefaults() []string {
	return []string{"redirect_url", "expiry_minutes", "document_optional", "workflow_id", "callback_url", "not_after"}
}

// target reads which batch is meant, and its defaults.
func (c *call) target() (tasks.Batch, error) {
	value, err := c.query(append(batchDefaults(), "batch")...)
	if err != nil {
		return tasks.Batch{}, err
	}
	if value("batch") == "" {
		return tasks.Batch{}, unreadable("batch", "is required: name the batch, as in /v1/batches?batch=spring")
	}
	r, err := tasks.ParseText(func(key string) string {
		if key == "application_id" {
			return "-" // nobody's
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

// roomWithin is for how long an upload goes on after a lane was found full for the
// first time. The import in a terminal waits for hours; an HTTP client does not.
const roomWithin = 20 * time.Second

// postBatch accepts the rows of a body while it comes.
func (a *API) postBatch(c *call) error {
	batch, err := c.target()
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
	if err := a.sent.begin(c.key); err != nil {
		return err
	}
	defer a.sent.end(c.key)
	if err := a.known(c, batch); err != nil {
		return err
	}
	ctx, stop := a.transfer(c)
	defer stop(nil)
	options := input.Options{Format: input.CSV, Encoding: charset, Strict: true}
	if media == ndjsonType {
		options.Format = input.NDJSON
	}
	body := &pacedReader{
		Reader: http.MaxBytesReader(c.ResponseWriter, c.r.Body, a.MaxBody), ctx: ctx, control: c.control, pace: pace{firstPatience},
	}
	in, err := input.ReadStream(body, "the body", options)
	if err != nil {
		return unusable(cmp.Or(body.err, err))
	}
	defer func() { _ = in.Close() }() // it has no error
	// Not before the header is there: a name is not kept from others for nothing.
	if !a.uploads.begin(batch.Name) {
		return newProblem(http.StatusConflict, string(fault.Conflict), "The batch is being sent",
			fmt.Sprintf("another request sends rows of batch %q at this moment; wait for its answer", batch.Name))
	}
	defer a.uploads.end(batch.Name)
	return a.accept(ctx, stop, c, batch, in, body)
}

// accept takes the rows in, and answers.
func (a *API) accept(ctx context.Context, stop context.CancelCauseFunc, c *call, batch tasks.Batch, in *input.File, body *pacedReader) error {
	if err := a.enter(ctx, c, "batches.import", batch.Name); err != nil {
		return err
	}
	var once sync.Once
	full := func(e *tasks.BacklogError) {
		once.Do(func() { time.AfterFunc(a.roomWithin, func() { stop(e) }) })
	}
	did := imported{Batch: batch.Name, Rejects: []rejected{}}
	job := &bulk.Import{Input: in, Batch: batch, Client: a.Importer(full).As(c.key.maker()), OnReject: func(r bulk.Reject) error {
		did.list(r)
		return nil
	}}
	var err error
	if did.Counts, err = job.Run(ctx); err != nil {
		// A body that cannot be read ends the context as well.
		return brokenOff(unusable(cmp.Or(body.err, err)), did.Counts)
	}
	did.Rejected = did.Counts.Rejected()
	return c.json(http.StatusOK, did)
}

// known refuses a batch that cannot take the rows, before any are read.
func (a *API) known(c *call, batch tasks.Batch) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	_, err := a.client(c).BatchOptions(ctx, batch)
	return err
}

// unusable says what is wrong with a body as a whole.
func unusable(err error) error {
	e, ok := errors.AsType[*input.Error](err)
	if _, known := errors.AsType[*problem](err); !ok || known {
		return err
	}
	if tooMuch, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooMuch
	}
	return unreadable("", "the body: "+e.Problem)
}

// brokenOff says how far it came as well. Chunks may have been accepted although no
// row was told of: the one before them was not.
func brokenOff(err error, counts bulk.Counts) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	p := *problemOf(err)
	if counts.Rows > 0 || p.Status >= http.StatusInternalServerError {
		p.Detail += "; rows that were accepted stay so, and to send the same again is to go on"
	}
	if counts.Rows > 0 {
		p.Imported = &counts
	}
	return &p
}
