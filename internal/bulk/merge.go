package bulk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/tasks"
)

// Merge is a batch that is to be written into the columns of the file that it was
// imported from: what the file has beside a request's keys was never stored.
type Merge struct {
	Input  *Input
	Rows   Rows
	Client *tasks.Client
	Batch  int // its number
	Name   string
	// Expired leaves out all rows but those whose link has expired.
	Expired bool
}

// Merged is what a merge wrote.
type Merged struct {
	Summary
	// Missing is how many rows of the file are not in the batch, and FirstMissing the
	// number of the first of them.
	Missing, FirstMissing int
}

// Write calls write for every row of the file with its outcome, in constant
// memory. A row is found by its number and id; one that the batch has for that id in
// another row, too.
func (m *Merge) Write(ctx context.Context, write func(Row, tasks.Link) error) (Merged, error) {
	merged := Merged{Summary: Summary{}}
	lines := newPlaces(m.Rows.Order(ctx, m.Batch))
	defer lines.stop()
	var page []Row
	flush := func() error {
		if err := ctx.Err(); err != nil || len(page) == 0 {
			return err
		}
		err := m.writePage(ctx, page, lines, &merged, write)
		page = page[:0]
		return err
	}
	for row, err := range m.Input.Rows() {
		if err != nil {
			return merged, err
		}
		if page = append(page, row); len(page) == lookRows {
			if err := flush(); err != nil {
				return merged, err
			}
		}
	}
	return merged, flush()
}

func (m *Merge) writePage(ctx context.Context, page []Row, lines *places, merged *Merged, write func(Row, tasks.Link) error) error {
	if err := lines.upTo(page[0].Number, page[len(page)-1].Number); err != nil {
		return err
	}
	reqs := make([]tasks.Request, len(page))
	for i, row := range page {
		if reqs[i] = row.Request; row.Err != nil || lines.has(row.Number, row.Request.ApplicationID) {
			reqs[i] = tasks.Request{ApplicationID: row.Request.ApplicationID}
		}
	}
	answers, err := m.Client.Preview(ctx, reqs)
	if err != nil {
		return err
	}
	for i, row := range page {
		link, missing := m.shown(row, answers[i], lines)
		if m.Expired && !link.Expired {
			continue
		}
		if merged.Summary[link.Status]++; missing {
			if merged.Missing++; merged.Missing == 1 {
				merged.FirstMissing = row.Number
			}
		}
		if err := write(row, link); err != nil {
			return err
		}
	}
	return nil
}

// shown is what is written of a row; missing says that the batch does not have it.
func (m *Merge) shown(row Row, a tasks.Answer, lines *places) (link tasks.Link, missing bool) {
	id := row.Request.ApplicationID
	if row.Err != nil {
		a.Err = row.Err
	}
	reason := tasks.ReasonOf(a.Err)
	switch {
	case reason != "":
		return Rejection(fault.Reason(reason), a.Err.Error(), a.Link), false
	case errors.Is(a.Err, tasks.ErrNotFound) && lines.has(row.Number, ""), a.Err != nil && lines.has(row.Number, id):
		return tasks.Link{Status: Erased}, false
	case a.Err == nil && (lines.has(row.Number, id) || a.Link.Batch == m.Name):
		return a.Link, false
	}
	return Rejection(fault.Invalid, fmt.Sprintf("batch %q has no row %d with this id", m.Name, row.Number), tasks.Link{}), true
}

// places are the rows of a batch, as far as they are read and not passed.
type places struct {
	next  func() ([]order.Row, error, bool)
	stop  func()
	ids   map[int][]string // by row
	chunk int              // up to which all is read
	ended bool
}

func newPlaces(order iter.Seq2[[]order.Row, error]) *places {
	next, stop := iter.Pull2(order)
	return &places{next: next, stop: stop, ids: map[int][]string{}, chunk: -1}
}

// upTo forgets what is before first, and reads all up to last. An order comes by
// chunks, within which rows may be in any order.
func (p *places) upTo(first, last int) error {
	for row := range p.ids {
		if row < first {
			delete(p.ids, row)
		}
	}
	for !p.ended && p.chunk <= (last-1)/order.ChunkRows {
		lines, err, ok := p.next()
		if err != nil {
			return err
		}
		p.ended = !ok
		for _, l := range lines {
			p.chunk = max(p.chunk, (l.Row-1)/order.ChunkRows)
			if l.Row >= first {
				p.ids[l.Row] = append(p.ids[l.Row], l.ApplicationID)
			}
		}
	}
	return nil
}

// has says whether the row is one of an id; of "" where it is erased.
func (p *places) has(row int, id string) bool { return slices.Contains(p.ids[row], id) }

// Stream writes rows of an input, as [Output] does, to what is no file of its own. It
// is for one goroutine.
type Stream struct {
	buf *bufio.Writer
	enc encoder
}

// NewStream begins the rows of in; a workbook's are written as CSV.
func NewStream(w io.Writer, in *Input, spreadsheet bool) (*Stream, error) {
	s := &Stream{buf: bufio.NewWriterSize(w, 1<<16)}
	var err error
	l := in.layout(in.format, results[:])
	l.spreadsheet = spreadsheet
	s.enc, err = newEncoder(s.buf, in, l)
	return s, err
}

// Write adds a row with its outcome.
func (s *Stream) Write(row Row, l tasks.Link) error { return s.enc.row(row, resultTexts(l)) }

// Flush writes what is left.
func (s *Stream) Flush() error { return errors.Join(s.enc.flush(), s.buf.Flush()) }
