// Package input reads files of requests: CSV, NDJSON or .xlsx, plain or compressed,
// from a file, a pipe or the body of an HTTP request. It returns the rows one by
// one, in constant memory, each with its request or its problems.
//
// It neither accepts requests nor writes files.
package input

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync/atomic"

	"github.com/kyclink/kyclink/tasks"
)

// Row is one row of a file. It stays valid when the next row is read.
type Row struct {
	Number int // from 1; the header and blank lines do not count
	Line   int // where the row starts, from 1
	// Request is what the row asks for; its lane is bulk if the row gives none.
	Request tasks.Request
	// Err is nil, or a [*tasks.InvalidError] with all problems of the row.
	Err error
	// Cells are the row's cells, as many as the file has columns; nil for NDJSON.
	Cells []string
	// JSON is the row's line; nil for CSV.
	JSON []byte
	// Link is the link that the row already has in the file; only [File.RowsWithLinks]
	// sets it.
	Link *tasks.Link

	flaw flaw // a defect of the file that this row shows
}

// KeepsLink reports whether the row has a link already and stays as it is.
func (r Row) KeepsLink() bool { return r.Link != nil && r.Err == nil }

// flaw is a defect of the whole file that shows in a row.
type flaw int

const (
	_        flaw = iota
	garbled       // the file is not in the encoding that it is read with
	misnamed      // a key is misspelled
)

// File is an open file of requests. A file that [Open] opened can be read several
// times, and gives the same rows or an error each time. It is for one goroutine at a
// time.
type File struct {
	path    string
	kind    Format      // of the file
	format  Format      // of the text that is read: a workbook is read as CSV
	file    *os.File    // nil for a request's body, which is in source
	stat    fs.FileInfo // of what path names; nil if file is nil
	size    int64       // of file, if it is regular
	source  io.Reader
	stream  bool // it can be read only once
	options Options
	dialect
	names    nameMapping  // of columns or keys
	columns  []string     // CSV only: the header
	keys     keyColumns   // CSV only
	isExport bool         // CSV only: it has the columns of an output file of kyclink
	unnamed  []int        // CSV only: columns without a name
	empty    map[int]bool // CSV only: the unnamed columns that [File.Inspect] found empty
	// NDJSON only: the keys that are carried over, as far as they occurred since seen
	// was made.
	otherKeys []string
	seen      map[string]bool
	scanner   *scanner        // before the first row; nil when that was read
	consumed  atomic.Int64    // bytes of the file
	ctx       context.Context //nolint:containedctx // of a stream: a Read takes none
	pipe      *io.PipeReader
	sample    string // of text that is not valid UTF-8
	warnings  []string
}

// dialect is how a text is written.
type dialect struct {
	encoding  string // empty for UTF-8 without a byte order mark
	decoded   bool   // the encoding is not UTF-8
	mark      bool   // the text begins with a byte order mark
	delimiter byte   // between the cells of a CSV; 0 before the header is read
	sepLine   bool   // the first line names the delimiter, as Excel understands it
}

// Close closes the file.
func (in *File) Close() error {
	if in.scanner != nil {
		in.scanner.end()
	}
	if in.pipe != nil {
		_ = in.pipe.Close() // always nil
	}
	if in.file == nil {
		return nil
	}
	return in.file.Close()
}

// Size returns how many bytes of the file were read, and how many it has; 0 if that
// is unknown.
func (in *File) Size() (read, size int64) {
	if in.regular() {
		size = in.size
	}
	return in.consumed.Load(), size
}

// regular reports whether it is a file of a known size.
func (in *File) regular() bool { return in.stat != nil && in.stat.Mode().IsRegular() }

// Format returns the file's format.
func (in *File) Format() Format { return in.kind }

// Is reports whether info describes this file.
func (in *File) Is(info fs.FileInfo) bool { return os.SameFile(info, in.stat) }

// Warnings describes what is suspicious about the file as a whole.
func (in *File) Warnings() []string { return in.warnings }

// Rows reads the file from its start and gives every row, in constant memory. An
// [*Error] ends it if the file cannot be read, or has changed since it was opened.
func (in *File) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		s, err := in.firstRow()
		if err != nil {
			yield(Row{}, err)
			return
		}
		defer s.end()
		decode := in.decodeCSV
		if in.format == NDJSON {
			decode = in.decodeNDJSON
		}
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
		err = s.Err()
		if err != nil {
			err = in.readError("not readable to its end", err)
		} else {
			err = in.unchanged()
		}
		if err != nil {
			yield(Row{}, err)
		}
	}
}

// firstRow returns a scanner that stands before the first row.
func (in *File) firstRow() (*scanner, error) {
	if err := in.unchanged(); err != nil {
		return nil, err
	}
	if s := in.scanner; s != nil {
		in.scanner = nil
		return s, nil
	}
	if in.stream {
		return nil, in.readError("already read, and it can be read only once", nil)
	}
	s, err := in.scan()
	if err == nil && in.format == CSV {
		in.skipToHeader(s) // it was checked when the file was opened
	}
	return s, err
}

// unchanged checks that the file was not written to since it was opened. If another
// file has taken its name, the open one is still read.
func (in *File) unchanged() error {
	if !in.regular() || in.kind == XLSX { // of a workbook a copy is read
		return nil
	}
	now, err := in.file.Stat()
	if err != nil {
		return in.readError("no longer readable", err)
	}
	if now.Size() != in.stat.Size() || !now.ModTime().Equal(in.stat.ModTime()) {
		return in.readError("the file was changed while it was in use; run again to continue with its new content", nil)
	}
	return nil
}

// content returns the file's plain text from its start, without a byte order mark,
// and a function to call when it is no longer read.
func (in *File) content() (io.Reader, func(), error) {
	var raw io.Reader = in.file
	switch {
	case !in.stream || in.kind == XLSX:
		raw = io.NewSectionReader(in.file, 0, in.size)
	case in.file == nil:
		raw = in.source
	case !in.regular():
		raw = in.untilDone()
	}
	in.consumed.Store(0)
	plain, end, err := in.decompress(&countingReader{raw, &in.consumed})
	if err != nil {
		return nil, nil, err
	}
	text, err := in.decode(bufio.NewReader(plain))
	if err == nil {
		_, err = text.Peek(1)
	}
	switch {
	case errors.Is(err, io.EOF):
		err = in.openError("the file is empty; it must hold at least a header or one request", nil)
	case err == nil:
		return text, end, nil
	default:
		if _, ok := errors.AsType[*Error](err); !ok {
			err = in.openError("not readable", err)
		}
	}
	end()
	return nil, nil, err
}

// untilDone reads a pipe through another one, so that the end of the context
// interrupts a read while the pipe is silent.
func (in *File) untilDone() io.Reader {
	r, w := io.Pipe()
	in.pipe = r
	stop := context.AfterFunc(in.ctx, func() { _ = w.CloseWithError(context.Cause(in.ctx)) })
	go func() {
		defer stop()
		_, err := io.Copy(w, in.file)
		_ = w.CloseWithError(err) // always nil
	}()
	return r
}

// countingReader counts the bytes that are read.
type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}
