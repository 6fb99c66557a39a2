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
}

// CreateRejects begins the file, in the place of one that is there already; its
// owner alone can read it. It has the input's format, unless its suffix says
// otherwise. With spreadsheet no cell is taken for a formula. The error is an
// [*OutputError].
func CreateRejects(path string, in *Input, spreadsheet bool) (*Rejects, error) {
	r := &Rejects{path: path}
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
	r.enc, err = newEncoder(r.buf, in, layout{outFormat(path, in), in.comma(), rejectColumns[:], spreadsheet})
	if err != nil {
		return nil, errors.Join(r.failed(err), file.Close())
	}
	return r, nil
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
	if err := errors.Join(r.enc.flush(), r.buf.Flush(), r.file.Close()); err != nil {
		return r.failed(err)
	}
	return nil
}

func (r *Rejects) failed(err error) error {
	return &OutputError{Path: r.path, Problem: "cannot be written", Err: cause(err)}
}
