package bulk

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Ledger reads the rows of batches and their requests.
type Ledger interface {
	// Order returns the rows of a batch in the input's order, by pages.
	Order(ctx context.Context, batch int) iter.Seq2[[]order.Row, error]
	// Latest returns requests as they are stored; nil for one that is not stored.
	Latest(ctx context.Context, ids []string) ([][]byte, error)
}

// Export writes the rows of a batch with their links. Each row shows the state at the
// time when it is read.
type Export struct {
	Ledger Ledger
	Batch  int // its number
	Format input.Format
	// Expired writes only rows whose link has expired at Now.
	Expired bool
	Now     time.Time
	// Spreadsheet escapes cells of a CSV that a spreadsheet may evaluate.
	Spreadsheet bool
}

// maxPages is how many pages are read and encoded at a time.
const maxPages = 4

// page is a page of rows on its way to the file.
type page struct {
	text   []byte
	counts output.Counts
	err    error
	done   chan struct{} // closed once the other fields are set
}

// Write writes the rows in the input's order; those of a workbook as CSV. Its memory
// is that of a few pages, however large the batch is.
func (e *Export) Write(ctx context.Context, w io.Writer) (output.Counts, error) {
	if err := e.encode(w, func(enc *output.Encoder) error { return enc.Header() }); err != nil {
		return nil, err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	pages := make(chan *page, maxPages)
	var readErr error
	go func() {
		defer close(pages)
		readErr = e.read(reading, pages)
	}()
	total := output.Counts{}
	var err error
	for p := range pages {
		<-p.done
		if err == nil {
			err = p.err
		}
		if err == nil {
			_, err = w.Write(p.text)
		}
		if err != nil {
			stop()
			continue // until no page is being read
		}
		for status, n := range p.counts {
			total[status] += n
		}
	}
	return total, cmp.Or(err, readErr)
}

func (e *Export) read(ctx context.Context, pages chan<- *page) error {
	for rows, err := range e.Ledger.Order(ctx, e.Batch) {
		if err != nil {
			return err
		}
		p := &page{counts: output.Counts{}, done: make(chan struct{})}
		select {
		case pages <- p:
		case <-ctx.Done():
			return ctx.Err()
		}
		go func() {
			defer close(p.done)
			p.err = e.fill(ctx, p, rows)
		}()
	}
	return ctx.Err()
}

// fill reads the requests of rows and encodes them.
func (e *Export) fill(ctx context.Context, p *page, rows []order.Row) error {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ApplicationID
	}
	stored, err := e.Ledger.Latest(ctx, ids)
	if err != nil {
		return err
	}
	text := bytes.NewBuffer(make([]byte, 0, 256*len(rows)))
	err = e.encode(text, func(enc *output.Encoder) error {
		row := input.Row{}
		for i, raw := range stored {
			r, link := parse(ids[i], raw, e.Now)
			if e.Expired && !link.Expired {
				continue
			}
			p.counts[link.Status]++
			row.Cells = appendCells(row.Cells[:0], r)
			if err := enc.Row(row, column.ResultCells(link)); err != nil {
				return err
			}
		}
		return nil
	})
	p.text = text.Bytes()
	return err
}

// encode calls do with an encoder that writes to w.
func (e *Export) encode(w io.Writer, do func(*output.Encoder) error) error {
	encoding := output.Encoding{Format: e.Format, Extra: column.Results(), Spreadsheet: e.Spreadsheet}
	if e.Format == input.XLSX {
		encoding.Format, encoding.Spreadsheet = input.CSV, false
	}
	for _, key := range tasks.Keys() {
		encoding.Layout.Columns = append(encoding.Layout.Columns, input.Column{Key: key, Name: key, Label: key})
	}
	enc := output.NewEncoder(w, encoding)
	if err := do(enc); err != nil {
		return err
	}
	return enc.Flush()
}

// parse returns a row's request, whoever accepted it, and its link. If the stored
// record is unreadable, the link says so.
func parse(id string, raw []byte, now time.Time) (request.Record, tasks.Link) {
	if raw == nil {
		return request.Record{ApplicationID: id}, tasks.Link{Status: column.Erased}
	}
	r, err := request.Parse(id, raw)
	link := linkview.Of(r, "", now)
	if err != nil {
		link.Reason, link.Message = string(fault.Quarantined), err.Error()
		r.ApplicationID = id
	}
	return r, link
}

// appendCells appends the values of a request's keys as an input file has them.
// Values that were not given are empty.
func appendCells(cells []string, r request.Record) []string {
	for _, key := range tasks.Keys() {
		cells = append(cells, cell(r, key))
	}
	return cells
}

func cell(r request.Record, key string) string {
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	switch c := r.Content; key {
	case column.ID:
		return r.ApplicationID
	case "redirect_url":
		return c.RedirectURL
	case "expiry_minutes":
		return number(c.ExpiryMinutes)
	case column.DocumentOptional:
		if c.DocumentOptional != nil {
			return strconv.FormatBool(*c.DocumentOptional)
		}
	case "workflow_id":
		return c.WorkflowID
	case "lane":
		return string(r.Lane)
	case "callback_url":
		return c.CallbackURL
	case "not_after":
		if !c.NotAfter.IsZero() {
			return c.NotAfter.Format(time.RFC3339Nano)
		}
	case "generation":
		return number(r.Generation)
	case "metadata":
		return string(c.Metadata)
	}
	return ""
}
