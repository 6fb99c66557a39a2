package bulk

import (
	"bufio"
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
}

// Reading says how a file is read. The zero value goes by the file's name.
type Reading struct {
	// Format is by the file's suffix where empty.
	Format Format
	// Delimiter is between the cells of a CSV, an ASCII character; a comma where 0.
	Delimiter byte
	// Columns tells what a request's key is called in the file, where that is
	// another name.
	Columns map[string]string
	// Strict says that a CSV's columns must all be a request's keys. NDJSON is
	// always strict.
	Strict bool
}

// Input is an open input file. One that [Open] opened is read as often as
// needed, and every time it gives the same rows or an error. It is for one
// goroutine at a time.
type Input struct {
	path     string
	format   Format
	file     *os.File    // nil: it is no file, and source is read
	stat     fs.FileInfo // nil where file is
	source   io.Reader
	stream   bool // it is read once
	reading  Reading
	columns  []string        // CSV only: the header
	at       map[string]int  // CSV only: the column of each key that there is one of
	begun    *scanner        // at the first row; nil once it was read
	consumed atomic.Int64    // bytes of the file
	ended    context.Context //nolint:containedctx // of a stream: a Read takes none
	pipe     *io.PipeReader
}

// Stdin is the path of the standard input.
const Stdin = "-"

// Open opens a file of requests, plain or compressed. The error is an
// [*InputError] where the file cannot be used at all: nothing of it was, or will
// be, read.
func Open(path string) (*Input, error) {
	in := &Input{path: path, format: formatOf(uncompressed(path))}
	// Asked before opening, as opening a pipe that nobody writes to hangs.
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir() && !info.Mode().IsRegular():
		return nil, in.unusable("is no regular file, and it is read more than once; save it to a file first", nil)
	case err == nil && info.Mode().IsRegular() && in.format == "":
		return nil, in.unusable("has a suffix that is not known; it must end in "+compressedFormats, nil)
	}
	return in.open()
}

// OpenStream opens a file that is read once: a pipe, or [Stdin], will do. Where
// ctx ends while nothing comes, reading fails.
func OpenStream(ctx context.Context, path string, r Reading) (*Input, error) {
	in := &Input{path: path, format: r.Format, reading: r, stream: true, ended: ctx}
	if in.format == "" {
		in.format = formatOf(uncompressed(path))
	}
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
	return (&Input{path: name, format: r.Format, reading: r, stream: true, source: source}).start()
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
	case in.format == "":
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
	}
	if in.begun, err = in.scan(); err != nil {
		return err
	}
	if in.format == CSV {
		return in.header(in.begun)
	}
	return nil
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
		size = in.stat.Size()
	}
	return in.consumed.Load(), size
}

// regular says whether it is a file whose size is known.
func (in *Input) regular() bool { return in.stat != nil && in.stat.Mode().IsRegular() }

// Column is what the file calls a request's key.
func (in *Input) Column(key string) string {
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
		s.row() // the header, which was judged when the file was opened
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
	if !in.regular() {
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
	case !in.stream:
		raw = io.NewSectionReader(in.file, 0, in.stat.Size())
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
	text := bufio.NewReader(plain)
	mark, err := text.Peek(len(byteOrderMark))
	if err == nil && string(mark) == byteOrderMark {
		_, err = text.Discard(len(byteOrderMark))
	}
	if err == nil || errors.Is(err, io.EOF) {
		_, err = text.Peek(1)
	}
	switch {
	case errors.Is(err, io.EOF):
		err = in.unusable("is empty; it must hold at least a header or one request", nil)
	case err != nil:
		err = in.unusable("cannot be read", err)
	default:
		return text, end, nil
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

const byteOrderMark = "\ufeff"

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
