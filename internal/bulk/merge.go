package bulk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/tasks"
)

// Merge writes the rows of the file from which a batch was imported, with their
// links: the file's other columns were never stored.
type Merge struct {
	Input  *input.File
	Ledger Ledger
	Client *tasks.Client
	Batch  int // its number
	Name   string
	// Expired writes only rows whose link has expired.
	Expired bool
	// Spreadsheet escapes cells of a CSV that a spreadsheet may evaluate.
	Spreadsheet bool
}

// Merged is the result of a merge.
type Merged struct {
	output.Counts
	// Missing is how many rows of the file are not in the batch; FirstMissing is the
	// number of the first of them.
	Missing, FirstMissing int
}

// Write calls write for every row of the file with its link, in constant memory. It
// finds a row by its number and id, and by its id alone if the batch has that in
// another row.
func (m *Merge) Write(ctx context.Context, write func(input.Row, tasks.Link) error) (Merged, error) {
	merged := Merged{Counts: output.Counts{}}
	rows := newRowWindow(m.Ledger.Order(ctx, m.Batch))
	defer rows.stop()
	var page []input.Row
	flush := func() error {
		if err := ctx.Err(); err != nil || len(page) == 0 {
			return err
		}
		err := m.writePage(ctx, page, rows, &merged, write)
		page = page[:0]
		return err
	}
	for row, err := range m.Input.Rows() {
		if err != nil {
			return merged, err
		}
		if page = append(page, row); len(page) == pageRows {
			if err := flush(); err != nil {
				return merged, err
			}
		}
	}
	return merged, flush()
}

func (m *Merge) writePage(ctx context.Context, page []input.Row, rows *rowWindow, merged *Merged, write func(input.Row, tasks.Link) error) error {
	if err := rows.moveTo(page[0].Number, page[len(page)-1].Number); err != nil {
		return err
	}
	reqs := make([]tasks.Request, len(page))
	for i, row := range page {
		if reqs[i] = row.Request; row.Err != nil || rows.has(row.Number, row.Request.ApplicationID) {
			reqs[i] = tasks.Request{ApplicationID: row.Request.ApplicationID}
		}
	}
	answers, err := m.Client.Preview(ctx, reqs)
	if err != nil {
		return err
	}
	for i, row := range page {
		link, missing := m.link(row, answers[i], rows)
		if m.Expired && !link.Expired {
			continue
		}
		if merged.Counts[link.Status]++; missing {
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

// link returns what is written of a row, and whether the batch does not have it.
func (m *Merge) link(row input.Row, a tasks.Answer, rows *rowWindow) (link tasks.Link, missing bool) {
	id := row.Request.ApplicationID
	if row.Err != nil {
		a.Err = row.Err
	}
	reason := tasks.ReasonOf(a.Err)
	switch {
	case reason != "":
		return column.Rejection(fault.Reason(reason), a.Err.Error(), a.Link), false
	case errors.Is(a.Err, tasks.ErrNotFound) && rows.has(row.Number, ""), a.Err != nil && rows.has(row.Number, id):
		return tasks.Link{Status: column.Erased}, false
	case a.Err == nil && (rows.has(row.Number, id) || a.Link.Batch == m.Name):
		return a.Link, false
	}
	return column.Rejection(fault.Invalid, fmt.Sprintf("batch %q has no row %d with this id", m.Name, row.Number), tasks.Link{}), true
}

// rowWindow holds some rows of a batch while the file's rows are read.
type rowWindow struct {
	next  func() ([]order.Row, error, bool)
	stop  func()
	ids   map[int][]string // by row
	chunk int              // the last one that is read
	ended bool
}

func newRowWindow(pages iter.Seq2[[]order.Row, error]) *rowWindow {
	next, stop := iter.Pull2(pages)
	return &rowWindow{next: next, stop: stop, ids: map[int][]string{}, chunk: -1}
}

// moveTo drops the rows before first, and reads all rows up to last. An order comes by
// chunks, within which the rows may be in any order.
func (w *rowWindow) moveTo(first, last int) error {
	for row := range w.ids {
		if row < first {
			delete(w.ids, row)
		}
	}
	for !w.ended && w.chunk <= (last-1)/order.ChunkRows {
		rows, err, ok := w.next()
		if err != nil {
			return err
		}
		w.ended = !ok
		for _, r := range rows {
			w.chunk = max(w.chunk, (r.Row-1)/order.ChunkRows)
			if r.Row >= first {
				w.ids[r.Row] = append(w.ids[r.Row], r.ApplicationID)
			}
		}
	}
	return nil
}

// has reports whether the batch has the row with an id; "" stands for an erased one.
func (w *rowWindow) has(row int, id string) bool { return slices.Contains(w.ids[row], id) }
