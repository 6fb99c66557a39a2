package output

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/workbook"
	"github.com/kyclink/kyclink/tasks"
)

// Results writes the rows of an input file with their links. It is for one goroutine.
type Results struct {
	file *replacement // nil for a stream
	buf  *bufio.Writer
	enc  *Encoder
}

// Inspect reads the input once, as [input.File.Inspect] does, and checks that out can
// hold its rows; if it cannot, the error is an [*Error].
func Inspect(out string, in *input.File) (input.Inspection, error) {
	format, layout := formatFor(out, in), in.Layout()
	found, err := in.Inspect(func(row input.Row) error {
		if format != input.XLSX {
			return nil
		}
		cells := row.Cells
		if layout.JSON {
			// A line may have keys that have not occurred before.
			var names []string
			for _, c := range in.Layout().Columns {
				names = append(names, c.Name)
			}
			cells = row.Texts(names)
		}
		if err := workbook.CheckRow(row.Number+1, cells, len(column.Results())); err != nil {
			return newError(out, fmt.Sprintf("row %d does not fit", row.Number), err)
		}
		return nil
	})
	if most, tooMany := in.TooManyKeys(); err == nil && format != input.NDJSON && tooMany {
		err = newError(out, fmt.Sprintf("the lines have more than %d different keys; write an .ndjson file", most), nil)
	}
	return found, err
}

// resultEncoding writes the rows of in with their links.
func resultEncoding(format input.Format, in *input.File, spreadsheet bool) Encoding {
	return Encoding{Format: format, Layout: layoutFor(format, in), Extra: column.Results(), Spreadsheet: spreadsheet}
}

// layoutFor returns the input's layout, with its delimiter only for the same format.
func layoutFor(format input.Format, in *input.File) input.Layout {
	l := in.Layout()
	if format != input.CSV {
		l.Delimiter, l.SepLine = 0, false
	}
	return l
}

// Create begins the file out for the rows of in. It replaces the file on
// [Results.Commit]; the caller ends with that or with [Results.Discard], and holds
// out's journal, so that no other process writes it. With spreadsheet, cells of a CSV
// that a spreadsheet may evaluate are escaped.
func Create(out string, in *input.File, spreadsheet bool) (*Results, error) {
	if err := Check(out, in); err != nil {
		return nil, err
	}
	r := &Results{file: &replacement{path: out}}
	err := r.file.create()
	if err != nil {
		return nil, r.file.failed(err)
	}
	r.buf = bufio.NewWriterSize(r.file.file, 1<<16)
	encoding := resultEncoding(formatFor(out, in), in, spreadsheet)
	if encoding.Format != input.XLSX {
		r.enc = NewEncoder(r.buf, encoding)
	} else if err = r.file.createWorkbook(r.buf); err == nil {
		r.enc = newWorkbookEncoder(r.file.book, encoding)
	}
	if err == nil {
		err = r.enc.Header()
	}
	if err != nil {
		return nil, errors.Join(r.file.failed(err), r.Discard())
	}
	return r, nil
}

// NewStream begins the rows of in on a stream; those of a workbook as CSV.
func NewStream(w io.Writer, in *input.File, spreadsheet bool) (*Results, error) {
	r := &Results{buf: bufio.NewWriterSize(w, 1<<16)}
	format := in.Format()
	if format == input.XLSX {
		format = input.CSV
	}
	r.enc = NewEncoder(r.buf, resultEncoding(format, in, spreadsheet))
	return r, r.enc.Header()
}

// Write adds a row of the input with its link, or with a [column.Rejection].
func (r *Results) Write(row input.Row, l tasks.Link) error {
	err := r.enc.Row(row, column.ResultCells(l))
	if err != nil && r.file != nil {
		return r.file.failed(err)
	}
	return err
}

// Commit replaces the file: then it is complete and on the disk. If it fails, the
// file is as before or complete, never in between. A stream is flushed.
func (r *Results) Commit() error {
	err := errors.Join(r.enc.Flush(), r.buf.Flush())
	switch {
	case r.file == nil:
		return err
	case err != nil:
		return errors.Join(r.file.failed(err), r.Discard())
	}
	return r.file.commit()
}

// Discard drops what was written and leaves the file as it was. After
// [Results.Commit] it does nothing. Rows of a stream cannot be taken back: it is
// flushed.
func (r *Results) Discard() error {
	if r.file == nil {
		return errors.Join(r.enc.Flush(), r.buf.Flush())
	}
	return r.file.discard()
}

// Counts are numbers of rows by status.
type Counts map[tasks.Status]int

// Unfinished reports whether any row has no link.
func (c Counts) Unfinished() bool {
	for status, n := range c {
		if status != tasks.Created && n > 0 {
			return true
		}
	}
	return false
}
