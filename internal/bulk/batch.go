package bulk

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Erased is the status of a row whose request is not kept any more, a word of
// files and counts only.
const Erased tasks.Status = "erased"

// Rows is what a batch's export needs of the ledger.
type Rows interface {
	// Order walks through the rows of a batch in the input's order, by pages.
	Order(ctx context.Context, batch int) iter.Seq2[[]order.Row, error]
	// Latest reads requests as they are stored; nil for one that is not kept.
	Latest(ctx context.Context, ids []string) ([][]byte, error)
}

// Export is a batch that is to be written with what came of its rows. It is
// written as it is while it is read: a row may be further than the one before it.
type Export struct {
	Rows   Rows
	Batch  int // its number
	Format Format
	// Expired leaves out all rows but those whose link has expired at Now.
	Expired bool
	Now     time.Time
	// Spreadsheet lets no cell of a CSV be taken for a formula.
	Spreadsheet bool
}

// exportAtOnce is how many pages are read and put into words at a time.
const exportAtOnce = 4

// page is some rows on their way to the file.
type page struct {
	text    []byte
	summary Summary
	err     error
	over    chan struct{}
}

// Write writes the batch in the input's order. Its memory is that of a few pages,
// however large the batch is.
func (e *Export) Write(ctx context.Context, w io.Writer) (Summary, error) {
	if _, err := w.Write(e.header()); err != nil {
		return nil, err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	pages := make(chan *page, exportAtOnce)
	var broken error
	go func() {
		defer close(pages)
		broken = e.read(reading, pages)
	}()
	total := Summary{}
	var failed error
	for p := range pages {
		<-p.over
		if failed == nil {
			failed = p.err
		}
		if failed == nil {
			_, failed = w.Write(p.text)
		}
		if failed != nil {
			stop()
			continue // until none is under way
		}
		for status, n := range p.summary {
			total[status] += n
		}
	}
	return total, cmp.Or(failed, broken)
}

func (e *Export) read(ctx context.Context, pages chan<- *page) error {
	for lines, err := range e.Rows.Order(ctx, e.Batch) {
		if err != nil {
			return err
		}
		p := &page{summary: Summary{}, over: make(chan struct{})}
		select {
		case pages <- p:
		case <-ctx.Done():
			return ctx.Err()
		}
		go func() {
			defer close(p.over)
			p.err = e.fill(ctx, p, lines)
		}()
	}
	return ctx.Err()
}

// fill puts rows into words.
func (e *Export) fill(ctx context.Context, p *page, lines []order.Row) error {
	ids := make([]string, len(lines))
	for i, l := range lines {
		ids[i] = l.ApplicationID
	}
	records, err := e.Rows.Latest(ctx, ids)
	if err != nil {
		return err
	}
	text := bytes.NewBuffer(make([]byte, 0, 256*len(lines)))
	write, flush := e.encoder(text)
	for i, raw := range records {
		r, link := told(ids[i], raw, e.Now)
		if e.Expired && !link.Expired {
			continue
		}
		p.summary[link.Status]++
		if err := write(r, link); err != nil {
			return err
		}
	}
	err = flush()
	p.text = text.Bytes()
	return err
}

// told is what a row's record says, whoever accepted it. A record that cannot be
// read keeps no other row from the file.
func told(id string, raw []byte, now time.Time) (request.Record, tasks.Link) {
	if raw == nil {
		return request.Record{ApplicationID: id}, tasks.Link{Status: Erased}
	}
	r, err := request.Parse(id, raw)
	link := linkview.Of(r, "", now)
	if err != nil {
		link.Reason, link.Message = string(fault.Quarantined), err.Error()
		r.ApplicationID = id
	}
	return r, link
}

func (e *Export) header() []byte {
	if e.Format == NDJSON {
		return nil
	}
	return csvLine(append(tasks.Keys(), results[:]...))
}

func csvLine(cells []string) []byte {
	line := new(bytes.Buffer)
	w := csv.NewWriter(line)
	_ = w.Write(cells) // into memory: it cannot fail
	w.Flush()
	return line.Bytes()
}

// encoder gives what writes a row in the format, and what ends the writing.
func (e *Export) encoder(text *bytes.Buffer) (write func(request.Record, tasks.Link) error, flush func() error) {
	if e.Format == NDJSON {
		enc := json.NewEncoder(text)
		enc.SetEscapeHTML(false)
		return func(r request.Record, l tasks.Link) error { return enc.Encode(exported(r, l)) }, func() error { return nil }
	}
	keys, cells := tasks.Keys(), []string(nil)
	w := csv.NewWriter(text)
	write = func(r request.Record, l tasks.Link) error {
		cells = cells[:0]
		for _, key := range keys {
			cells = append(cells, cell(r, key))
		}
		cells = append(cells, resultTexts(l)...)
		if e.Spreadsheet && e.Format == CSV {
			neutralize(cells)
		}
		return w.Write(cells)
	}
	return write, func() error {
		w.Flush()
		return w.Error()
	}
}

// cell is a key of the request, as an input file holds it; empty where it was not
// given.
func cell(r request.Record, key string) string {
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	switch c := r.Content; key {
	case idKey:
		return r.ApplicationID
	case "redirect_url":
		return c.RedirectURL
	case "expiry_minutes":
		return number(c.ExpiryMinutes)
	case "document_optional":
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

// exportedRow is a row as a JSON object: the request's keys, then what came of it.
type exportedRow struct {
	ApplicationID    string          `json:"application_id,omitempty"`
	RedirectURL      string          `json:"redirect_url,omitempty"`
	ExpiryMinutes    int             `json:"expiry_minutes,omitempty"`
	DocumentOptional *bool           `json:"document_optional,omitempty"`
	WorkflowID       string          `json:"workflow_id,omitempty"`
	Lane             request.Lane    `json:"lane,omitempty"`
	CallbackURL      string          `json:"callback_url,omitempty"`
	NotAfter         time.Time       `json:"not_after,omitzero"`
	Generation       int             `json:"generation,omitempty"`
	Metadata         json.RawMessage `json:"metadata,omitempty"`

	Status             tasks.Status `json:"status"`
	LinkID             string       `json:"link_id,omitempty"`
	URL                string       `json:"url,omitempty"`
	ExpiresAt          string       `json:"expires_at,omitempty"`
	Reason             string       `json:"reason,omitempty"`
	Attempts           int          `json:"attempts"`
	PossibleDuplicates int          `json:"possible_duplicates"`
}

func exported(r request.Record, l tasks.Link) exportedRow {
	c, texts := r.Content, resultTexts(l)
	return exportedRow{
		r.ApplicationID, c.RedirectURL, c.ExpiryMinutes, c.DocumentOptional, c.WorkflowID, r.Lane, c.CallbackURL, c.NotAfter, r.Generation, c.Metadata,
		l.Status, texts[1], texts[2], texts[3], texts[4], l.Attempts, l.PossibleDuplicates,
	}
}
