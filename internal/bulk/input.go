package bulk

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync/atomic"

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

	cells  []string    // CSV: as many as the file has columns
	raw    []byte      // NDJSON: the line
	linked *tasks.Link // the link that the row has already, and is to keep
	flaw   flaw        // what is wrong with the file, as this row shows
}

// flaw is what a row shows of its file.
type flaw int

const (
	_        flaw = iota
	garbled       // its encoding is not the one that it is read with
	misnamed      // a key of its is misspelled
)

// Reading says how a file is read. The zero value goes by the file's name and by
// what it holds.
type Reading struct {
	// Format is by the file's suffix where empty.
	Format Format
	// Delimiter is between the cells of a CSV, an ASCII character; where 0 it is told
	// from the header.
	Delimiter byte
	// Encoding is the name of a text's encoding; UTF-8 where empty. A byte order mark
	// in the text wins.
	Encoding string
	// Sheet is the name of a workbook's sheet; its first where empty.
	Sheet string
	// Columns tells what a request's key is called in the file, where that is
	// another name.
	Columns map[string]string
	// Carry names columns or keys that are data, although they are called nearly or
	// exactly as a request's key.
	Carry []string
	// Strict says that all columns and keys must be a request's, or a result's of an
	// earlier export.
	Strict bool
}

// Validate says what is wrong with the reading itself, whichever the file is.
func (r Reading) Validate() error {
	if r.Encoding == "" {
		return nil
	}
	_, err := encodingOf(r.Encoding)
	return err
}

// Input is an open input file. One that [Open] opened is read as often as
// needed, and every time it gives the same rows or an error. It is for one
// goroutine at a time.
type Input struct {
	path    string
	kind    Format      // of the file
	format  Format      // of what is read: a workbook is read as CSV
	file    *os.File    // nil: it is no file, and source is read
	stat    fs.FileInfo // of what path names; nil where file is
	size    int64       // of file, where it is regular
	source  io.Reader
	stream  bool // it is read once
	reading Reading
	dialect
	names   mapping    // of columns or keys
	columns []string   // CSV only: the header
	at      keyColumns // CSV only
	// CSV only: it has the columns of an OUT or an export.
	exported bool
	unnamed  []int        // CSV only: the columns without a name
	empty    map[int]bool // CSV only: those of unnamed that [Input.Inspect] found empty
	// NDJSON only: the keys that are carried over, as far as they were seen since
	// seen was made.
	otherKeys []string
	seen      map[string]bool
	begun     *scanner        // at the first row; nil once it was read
	consumed  atomic.Int64    // bytes of the file
	ended     context.Context //nolint:containedctx // of a stream: a Read takes none
	pipe      *io.PipeReader
	sample    string   // of what is not valid UTF-8
	warnings  []string // about the file
}

// dialect is how a text is written.
type dialect struct {
	encoding  string // empty: UTF-8 without a mark
	decoded   bool   // it is no UTF-8
	mark      bool   // it begins with a byte order mark
	delimiter byte   // between the cells of a CSV; 0 before its header was read
	sepLine   bool   // a first line names the delimiter, as Excel reads it
}

// Stdin is the path of the standard input.
const Stdin = "-"

// Open opens a file of requests, plain or compressed. The error is an
// [*InputError] where the file cannot be used at all: nothing of it was, or will
// be, read.
func Open(path string, r Reading) (*Input, error) {
	in := newInput(path, r)
	// Asked before opening, as opening a pipe that nobody writes to hangs.
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir() && !info.Mode().IsRegular():
		return nil, in.unusable("is no regular file, and it is read more than once; save it to a file first", nil)
	case err == nil && info.Mode().IsRegular() && in.kind == "":
		return nil, in.unusable("has a suffix that is not known; it must end in "+compressedFormats, nil)
	}
	return in.open()
}

func newInput(path string, r Reading) *Input {
	in := &Input{path: path, kind: cmp.Or(r.Format, formatOf(uncompressed(path))), reading: r}
	if in.format = in.kind; in.kind == XLSX {
		in.format = CSV
	}
	return in
}

// OpenStream opens a file that is read once: a pipe, or [Stdin], will do. Where
// ctx ends while nothing comes, reading fails.
func OpenStream(ctx context.Context, path string, r Reading) (*Input, error) {
	in := newInput(path, r)
	in.stream, in.ended = true, ctx
	if path == Stdin {
		in.path, in.file = "(standard input)", os.Stdin
		return in.start()
	}
	return in.open()
}

// ReadStream reads what is no file, such as the body of an HTTP request, plain and
// once. r.Format must be given. The errors speak of it as the input "name"; source
// is not closed.
func ReadStream(source io.Reader, name string, r Reading) (*Input, error) {
	in := newInput(name, r)
	in.stream, in.source = true, source
	return in.start()
}

func (in *Input) open() (*Input, error) {
	info, err := os.Stat(in.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, in.unusable("does not exist; check the path", nil)
	case err != nil:
		return nil, in.unusable("cannot be read; check its permissions", err)
	case info.IsDir():
		return nil, in.unusable("is a directory; name a file in it", nil)
	case in.kind == "":
		return nil, in.unusable("has a suffix that is not known; it must end in "+compressedFormats+", or say --format", nil)
	}
	if in.file, err = os.Open(in.path); err != nil {
		return nil, in.unusable("cannot be opened; check its permissions", err)
	}
	return in.start()
}

func (in *Input) start() (*Input, error) {
	err := in.begin()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// begin reads what comes before the rows.
func (in *Input) begin() error {
	var err error
	if in.file != nil {
		if in.stat, err = in.file.Stat(); err != nil {
			return in.unusable("cannot be read", err)
		}
		in.size = in.stat.Size()
	}
	if in.kind == XLSX {
		if err := in.unpackWorkbook(); err != nil {
			return err
		}
	}
	if in.begun, err = in.scan(); err != nil {
		return err
	}
	if in.format == CSV {
		err = in.header(in.begun)
	} else {
		in.names, err = in.mapping(nil)
	}
	if err != nil {
		return err
	}
	return in.someRow(in.begun)
}

// someRow refuses a file without rows: whoever gives one expects links.
func (in *Input) someRow(s *scanner) error {
	if s.peek() {
		return nil
	}
	switch err := s.Err(); {
	case err != nil:
		return in.unusable("cannot be read", err)
	case in.format == CSV:
		return in.unusable("has a header and no rows; check that it was saved completely", nil)
	}
	return in.unusable("holds no requests, only blank lines", nil)
}

// Close closes the file.
func (in *Input) Close() error {
	if in.begun != nil {
		in.begun.end()
	}
	if in.pipe != nil {
		_ = in.pipe.Close() // it has no error
	}
	if in.file == nil {
		return nil
	}
	return in.file.Close()
}

// Size tells how many bytes of the file were read, and how many it has; 0 where
// that is not known.
func (in *Input) Size() (read, size int64) {
	if in.regular() {
		size = in.size
	}
	return in.consumed.Load(), size
}

// regular says whether it is a file whose size is known.
func (in *Input) regular() bool { return in.stat != nil && in.stat.Mode().IsRegular() }

// Warnings says what is suspicious in the file as a whole.
func (in *Input) Warnings() []string { return in.warnings }

// Column is what the file calls a request's key.
func (in *Input) Column(key string) string {
	if i, ok := in.at.of(key); ok {
		return in.columns[i]
	}
	if name, ok := in.reading.Columns[key]; ok {
		return name
	}
	return key
}

// Rows reads the file from its start and gives every row of it, with memory
// for one row at a time. An error ends it: the file cannot be read, or it is
// not what it was when it was opened ([*InputError]).
func (in *Input) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		s, err := in.firstRow()
		if err != nil {
			yield(Row{}, err)
			return
		}
		defer s.end()
		decode := in.decoder()
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
			err = in.unusable("cannot be read to its end", err)
		} else {
			err = in.unchanged()
		}
		if err != nil {
			yield(Row{}, err)
		}
	}
}

// firstRow gives the scanner that stands before it.
func (in *Input) firstRow() (*scanner, error) {
	if err := in.unchanged(); err != nil {
		return nil, err
	}
	if s := in.begun; s != nil {
		in.begun = nil
		return s, nil
	}
	if in.stream {
		return nil, in.unusable("was read already, and cannot be read again", nil)
	}
	s, err := in.scan()
	if err == nil && in.format == CSV {
		in.headerLine(s) // which was judged when the file was opened
	}
	return s, err
}

func (in *Input) decoder() func(*scanner) Row {
	if in.format == NDJSON {
		return in.decodeNDJSON
	}
	return in.decodeCSV
}

// unchanged notices that the file was written to since it was opened. A file
// that was replaced by another under its name is still the one that is open.
func (in *Input) unchanged() error {
	if !in.regular() || in.kind == XLSX { // what is read of a workbook is a copy
		return nil
	}
	now, err := in.file.Stat()
	if err != nil {
		return in.unusable("cannot be read any more", err)
	}
	if now.Size() != in.stat.Size() || !now.ModTime().Equal(in.stat.ModTime()) {
		return in.unusable("was changed while it was in use; run again to go on with what it holds now", nil)
	}
	return nil
}

// content is the file's plain text from its start, without the byte order mark.
func (in *Input) content() (io.Reader, func(), error) {
	var raw io.Reader = in.file
	switch {
	case !in.stream || in.kind == XLSX:
		raw = io.NewSectionReader(in.file, 0, in.size)
	case in.file == nil:
		raw = in.source
	case !in.regular():
		raw = in.untilEnded()
	}
	in.consumed.Store(0)
	plain, end, err := in.decompress(&counter{raw, &in.consumed})
	if err != nil {
		return nil, nil, err
	}
	text, err := in.unicodeText(bufio.NewReader(plain))
	if err == nil {
		_, err = text.Peek(1)
	}
	switch {
	case errors.Is(err, io.EOF):
		err = in.unusable("is empty; it must hold at least a header or one request", nil)
	case err == nil:
		return text, end, nil
	default:
		if _, said := errors.AsType[*InputError](err); !said {
			err = in.unusable("cannot be read", err)
		}
	}
	end()
	return nil, nil, err
}

// untilEnded reads a pipe ahead, so that the end of a context is noticed while
// nothing comes.
func (in *Input) untilEnded() io.Reader {
	r, w := io.Pipe()
	in.pipe = r
	stop := context.AfterFunc(in.ended, func() { _ = w.CloseWithError(context.Cause(in.ended)) })
	go func() {
		defer stop()
		_, err := io.Copy(w, in.file)
		_ = w.CloseWithError(err) // it has no error
	}()
	return r
}

// counter counts what is read.
type counter struct {
	io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
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
