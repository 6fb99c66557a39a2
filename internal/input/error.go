package input

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/kyclink/kyclink/tasks"
)

// Error reports why a file cannot be used at all, and what to do about it. An invalid row
// is not an Error; see [Row].
type Error struct {
	Op      string // "open" or "read"
	Path    string
	Problem string // empty if Err is sufficient
	Err     error  // the cause, if there is one
	// Columns are the names in the header, if that could be read but its columns cannot be
	// used.
	Columns []string
}

func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Reason() }

// Reason is the error without the operation and the path.
func (e *Error) Reason() string {
	switch {
	case e.Err == nil:
		return e.Problem
	case e.Problem == "":
		return e.Err.Error()
	}
	return e.Problem + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (in *File) openError(problem string, err error) error { return in.newError("open", problem, err) }

func (in *File) readError(problem string, err error) error { return in.newError("read", problem, err) }

func (in *File) newError(op, problem string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) { // the path is named already
		err = path.Err
	}
	return &Error{Op: op, Path: in.path, Problem: problem, Err: err}
}

// columnError reports that the columns of the header cannot be used.
func (in *File) columnError(problem string) error {
	return &Error{Op: "open", Path: in.path, Problem: problem, Columns: in.columns}
}

// isUpload reports whether a client sent the file.
func (in *File) isUpload() bool { return in.file == nil || in.options.Uploaded }

// malformed is the error of a row that could not be split into cells or members.
func malformed(line int, problem string, args ...any) error {
	message := fmt.Sprintf("line %d ", line) + fmt.Sprintf(problem, args...)
	return &tasks.InvalidError{Problems: []tasks.Problem{{Message: message}}}
}

// malformed reports whether the row could not be split, so that its cells may belong
// to other columns.
func (r Row) malformed() bool {
	e, ok := errors.AsType[*tasks.InvalidError](r.Err)
	return ok && len(e.Problems) == 1 && e.Problems[0].Key == ""
}
