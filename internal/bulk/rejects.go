package bulk

import (
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// Rejects is a CSV file of the rows that were not accepted: a line for each
// thing that is wrong with one. It is for one goroutine at a time.
type Rejects struct {
	path string
	file io.Closer
	w    *csv.Writer
}

// CreateRejects begins the file, in the place of one that is there already; its
// owner alone can read it. The error is an [*OutputError].
func CreateRejects(path string, in *Input) (*Rejects, error) {
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
	r.file, r.w = file, csv.NewWriter(file)
	if err := r.w.Write([]string{"row", "line", "column", "reason", "message", "application_id"}); err != nil {
		return nil, errors.Join(r.failed(err), file.Close())
	}
	return r, nil
}

// Write adds a row.
func (r *Rejects) Write(reject Reject) error {
	for _, p := range reject.Problems {
		err := r.w.Write([]string{
			strconv.Itoa(reject.Row), strconv.Itoa(reject.Line), p.Key, string(reject.Reason), p.Message, reject.ApplicationID,
		})
		if err != nil {
			return r.failed(err)
		}
	}
	return nil
}

// Close ends the file.
func (r *Rejects) Close() error {
	r.w.Flush()
	if err := errors.Join(r.w.Error(), r.file.Close()); err != nil {
		return r.failed(err)
	}
	return nil
}

func (r *Rejects) failed(err error) error {
	return &OutputError{Path: r.path, Problem: "cannot be written", Err: cause(err)}
}
