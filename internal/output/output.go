// Package output writes files of rows: the links of a run, the rows of a batch, and
// the rows that an import rejects. One encoder writes all of them. Files that hold
// links appear under their name only when they are complete.
//
// Cells are written as they were read, also those that a spreadsheet may evaluate:
// changing them would change data. A file that people open in a spreadsheet is
// written with an option that escapes them.
package output

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kyclink/kyclink/internal/input"
)

// Error reports why a file cannot be written, and what to do about it.
type Error struct {
	Path    string
	Problem string // empty if Err is sufficient
	Err     error  // the cause, if there is one
	Advice  string
}

func (e *Error) Error() string {
	text := "write " + e.Path
	if e.Problem != "" {
		text += ": " + e.Problem
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Advice != "" {
		text += "; " + e.Advice
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Fatal reports that a worker that meets this error must end.
func (*Error) Fatal() bool { return true }

// newError returns an error whose advice follows "; " in problem.
func newError(path, problem string, err error) *Error {
	var cause *fs.PathError
	if errors.As(err, &cause) { // the path is named already
		err = cause.Err
	}
	problem, advice, _ := strings.Cut(problem, "; ")
	return &Error{Path: path, Problem: problem, Err: err, Advice: advice}
}

// Check reports whether [Create] can write the rows of in to the file out. The error
// is an [*Error].
func Check(out string, in *input.File) error {
	if err := CheckName(out); err != nil {
		return err
	}
	if dir, err := os.Stat(filepath.Dir(out)); err != nil || !dir.IsDir() {
		return newError(out, "its directory cannot be used; create it first", err)
	}
	switch info, err := os.Stat(out); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return newError(out, "not accessible; check its permissions", err)
	case !info.Mode().IsRegular():
		return newError(out, "not a regular file; name another file", nil)
	case in.Is(info):
		return newError(out, "this is the input file; name another file", nil)
	}
	if l := in.Layout(); !l.JSON && formatFor(out, in) == input.NDJSON {
		seen := make(map[string]bool)
		for _, c := range l.Columns {
			if seen[c.Label] {
				return newError(out, fmt.Sprintf("NDJSON cannot hold two members named %q; rename a column of the input, or write a .csv file", c.Label), nil)
			}
			seen[c.Label] = true
		}
	}
	return nil
}

// formatFor returns the format that out's suffix names, or else the input's.
func formatFor(out string, in *input.File) input.Format {
	return cmp.Or(input.FormatOf(out), in.Format())
}

// CheckName reports whether rows can be written under a name: its suffix must be that of a
// supported format, or missing. The error is an [*Error].
func CheckName(out string) error {
	switch ext := strings.ToLower(filepath.Ext(out)); {
	case ext == "" || input.FormatOf(out) != "":
		return nil
	case ext == ".gz" || ext == ".zst":
		return newError(out, "the rows cannot be compressed; name a file that ends in "+input.Suffixes, nil)
	default:
		return newError(out, "files that end in "+ext+" cannot be written; name one that ends in "+input.Suffixes, nil)
	}
}

// IsStandardStream reports whether a path names a standard stream of this process
// rather than a file.
func IsStandardStream(path string) bool {
	path = filepath.Clean(path)
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return path == "-" || path == "/dev/stdout" || path == "/dev/stderr" || path == "/dev/stdin"
}

// Resolve follows symbolic links to the file that out names, which need not exist
// yet: that file is replaced, and the links stay. The error is an [*Error].
func Resolve(out string) (string, error) {
	path := out
	for range maxLinks {
		link, err := os.Readlink(path)
		if err != nil { // not a link; Check finds what else may be wrong
			return path, nil //nolint:nilerr // likewise
		}
		dir, _ := filepath.Split(path)
		if filepath.IsAbs(link) {
			dir = ""
		}
		// Not cleaned: ".." after a link to a directory means that directory's parent.
		dir, name := filepath.Split(dir + link)
		if dir, err = filepath.EvalSymlinks(cmp.Or(dir, ".")); err != nil {
			return "", newError(out, "it links into a directory that cannot be used; create it first", err)
		}
		path = filepath.Join(dir, name)
	}
	return "", newError(out, "it is a symbolic link to itself; name another file", nil)
}

// maxLinks is how many links to links are followed.
const maxLinks = 40
