package output

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/workbook"
)

// rejectColumns returns the columns that follow the input's in a file of rejected
// rows. They replace those of an earlier such file.
func rejectColumns() []string { return []string{"reason", "message"} }

// Rejects is a file of the rows that were not accepted, as the input has them, with
// the reasons. Corrected, it can be imported. It is for one goroutine.
type Rejects struct {
	path string
	file io.Closer
	buf  *bufio.Writer
	enc  *Encoder
	book *workbook.Writer // nil unless the file is a workbook
}

// CreateRejects creates the file, or truncates it; only its owner can read a new one.
// It has the input's format unless its suffix names another. With spreadsheet, cells
// of a CSV that a spreadsheet may evaluate are escaped. The error is an [*Error].
func CreateRejects(path string, in *input.File, spreadsheet bool) (*Rejects, error) {
	r := &Rejects{path: path}
	format := formatFor(path, in)
	encoding := Encoding{Format: format, Layout: layoutFor(format, in), Extra: rejectColumns(), Spreadsheet: spreadsheet}
	if err := CheckName(path); err != nil {
		return nil, err
	}
	if encoding.Layout.JSON && format != input.NDJSON {
		return nil, newError(path, "rejected NDJSON lines can have any keys; name a file that ends in .ndjson", nil)
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, r.failed(err)
	case in.Is(info):
		return nil, newError(path, "this is the input file; name another file", nil)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, r.failed(err)
	}
	r.file, r.buf = file, bufio.NewWriterSize(file, 1<<16)
	if format != input.XLSX {
		r.enc = NewEncoder(r.buf, encoding)
	} else if r.book, err = workbook.NewWriter(r.buf, "", column.IsNumber); err == nil {
		r.enc = newWorkbookEncoder(r.book, encoding)
	}
	if err == nil {
		err = r.enc.Header()
	}
	if err != nil {
		return nil, errors.Join(r.failed(err), r.close())
	}
	return r, nil
}

func (r *Rejects) close() error {
	if r.book != nil {
		return errors.Join(r.book.Discard(), r.file.Close())
	}
	return r.file.Close()
}

// Write adds a row.
func (r *Rejects) Write(row input.Row, reason, message string) error {
	if err := r.enc.Row(row, []string{reason, message}); err != nil {
		return r.failed(err)
	}
	return nil
}

// Close completes the file.
func (r *Rejects) Close() error {
	if err := errors.Join(r.enc.Flush(), r.buf.Flush(), r.close()); err != nil {
		return r.failed(err)
	}
	return nil
}

func (r *Rejects) failed(err error) error {
	return newError(r.path, "; check its disk and directory", err)
}
