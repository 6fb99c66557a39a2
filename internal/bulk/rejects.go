package bulk

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
)

// rejectColumns come after the input's columns in a file of rejects. They take the
// place of input columns of the same name, which are those of an earlier one.
var rejectColumns = [...]string{"reason", "message"}

// Rejects is a file of the rows that were not accepted, as the input has them, with
// why. Corrected, it can be imported. It is for one goroutine at a time.
type Rejects struct {
	path string
	file io.Closer
	buf  *bufio.Writer
	enc  encoder
	book *workbookWriter // nil where no workbook is written
}

// CreateRejects begins the file, in the place of one that is there already; its
// owner alone can read it. It has the input's format, unless its suffix says
// otherwise. With spreadsheet no cell is taken for a formula. The error is an
// [*OutputError].
func CreateRejects(path string, in *Input, spreadsheet bool) (*Rejects, error) {
	r := &Rejects{path: path}
	l := in.layout(outFormat(path, in), rejectColumns[:])
	l.spreadsheet = spreadsheet
	if problem := UnknownSuffix(path); problem != "" {
		return nil, &OutputError{Path: path, Problem: problem}
	}
	if in.format == NDJSON && l.format != NDJSON {
		return nil, &OutputError{Path: path, Problem: "cannot hold whatever keys the lines have; name a file that ends in .ndjson"}
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, r.failed(err)
	case os.SameFile(info, in.stat):
		return nil, &OutputError{Path: path, Problem: "is the input file; name another"}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, r.failed(err)
	}
	r.file, r.buf = file, bufio.NewWriterSize(file, 1<<16)
	if l.format != XLSX {
		r.enc, err = newEncoder(r.buf, in, l)
	} else if r.book, err = newWorkbookWriter(r.buf, ""); err == nil {
		r.enc, err = newBookEncoder(r.book, in, l)
	}
	if err != nil {
		return nil, errors.Join(r.failed(err), r.release())
	}
	return r, nil
}

func (r *Rejects) release() error {
	if r.book != nil {
		return errors.Join(r.book.discard(), r.file.Close())
	}
	return r.file.Close()
}

// Write adds a row.
func (r *Rejects) Write(reject Reject) error {
	if err := r.enc.row(reject.row, []string{string(reject.Reason), reject.message()}); err != nil {
		return r.failed(err)
	}
	return nil
}

// Close ends the file.
func (r *Rejects) Close() error {
	if err := errors.Join(r.enc.flush(), r.buf.Flush(), r.release()); err != nil {
		return r.failed(err)
	}
	return nil
}

func (r *Rejects) failed(err error) error {
	return &OutputError{Path: r.path, Problem: "cannot be written", Err: cause(err)}
}
