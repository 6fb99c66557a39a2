package bulk

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"github.com/kyclink/kyclink/tasks"
)

// Row is one row of an input file. It stays valid after the next was read.
type Row struct {
	Number int // from 1; the header and blank lines do not count
	Line   int // at which the row starts, from 1
	// Request is what the row asks for, its lane bulk where it gives none.
	Request tasks.Request
	// Err is nil, or a [*tasks.InvalidError] with all that is wrong with the row.
	Err error

	cells []string // CSV: as many as the file has columns
	raw   []byte   // NDJSON: the line
}

// Input is an open input file. It is read as often as needed, and every time
// it gives the same rows or an error. It is for one goroutine at a time.
type Input struct {
	path    string
	format  Format
	file    *os.File
	stat    fs.FileInfo
	skip    int64    // the byte order mark
	columns []string // CSV only: the header
}

// Open opens a file of requests. The error is an [*InputError] where the file
// cannot be used at all: nothing of it was, or will be, read.
func Open(path string) (*Input, error) {
	in := &Input{path: path, format: formatOf(path)}
	// Asked before opening, as opening a pipe that nobody writes to hangs.
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, in.unusable("does not exist; check the path", nil)
	case err != nil:
		return nil, in.unusable("cannot be read; check its permissions", err)
	case info.IsDir():
		return nil, in.unusable("is a directory; name a file in it", nil)
	case !info.Mode().IsRegular():
		return nil, in.unusable("is no regular file, and it is read more than once; save it to a file first", nil)
	case in.format == "":
		return nil, in.unusable("has a suffix that is not known; it must end in "+formats, nil)
	}
	if in.file, err = os.Open(path); err != nil {
		return nil, in.unusable("cannot be opened; check its permissions", err)
	}
	if err := in.begin(); err != nil {
		return nil, errors.Join(err, in.file.Close())
	}
	return in, nil
}

// begin reads what comes before the rows.
func (in *Input) begin() error {
	var err error
	if in.stat, err = in.file.Stat(); err != nil {
		return in.unusable("cannot be read", err)
	}
	mark := make([]byte, 3)
	if n, _ := in.file.ReadAt(mark, 0); string(mark[:n]) == "\xef\xbb\xbf" {
		in.skip = 3
	}
	if in.stat.Size() == in.skip {
		return in.unusable("is empty; it must hold at least a header or one request", nil)
	}
	if in.format == CSV {
		in.columns, err = in.header()
	}
	return err
}

// Close closes the file.
func (in *Input) Close() error { return in.file.Close() }

// Rows reads the file from its start and gives every row of it, with memory
// for one row at a time. An error ends it: the file cannot be read, or it is
// not what it was when it was opened ([*InputError]).
func (in *Input) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if err := in.unchanged(); err != nil {
			yield(Row{}, err)
			return
		}
		s, decode := in.reader()
		for number := 1; s.row(); number++ {
			row := decode(s)
			row.Number, row.Line = number, s.line
			if row.Err == nil && row.Request.Lane == "" {
				row.Request.Lane = tasks.Bulk
			}
			if !yield(row, nil) {
				return
			}
		}
		err := s.Err()
		if err != nil {
			err = in.unusable("cannot be read to its end", err)
		} else {
			err = in.unchanged()
		}
		if err != nil {
			yield(Row{}, err)
		}
	}
}

// reader starts at the first row.
func (in *Input) reader() (*scanner, func(*scanner) Row) {
	s := in.scan()
	if in.format == NDJSON {
		return s, decodeNDJSON
	}
	s.row() // the header, which was judged when the file was opened
	return s, newCSVDecoder(in.columns).decode
}

// unchanged notices that the file was written to since it was opened. A file
// that was replaced by another under its name is still the one that is open.
func (in *Input) unchanged() error {
	now, err := in.file.Stat()
	if err != nil {
		return in.unusable("cannot be read any more", err)
	}
	if now.Size() != in.stat.Size() || !now.ModTime().Equal(in.stat.ModTime()) {
		return in.unusable("was changed while it was in use; run again to go on with what it holds now", nil)
	}
	return nil
}

func (in *Input) unusable(problem string, err error) error {
	return &InputError{Path: in.path, Problem: problem, Err: cause(err)}
}

// cause takes the path off an error of the file system, which our own errors
// name already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// broken is the error of a row that could not be taken apart.
func broken(line int, problem string, args ...any) error {
	message := fmt.Sprintf("line %d ", line) + fmt.Sprintf(problem, args...)
	return &tasks.InvalidError{Problems: []tasks.Problem{{Message: message}}}
}
