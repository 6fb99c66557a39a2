package bulk

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Sheet is a file that an export is written to, compressed where its name ends in
// .gz or .zst. A workbook is written to it as CSV, which it makes cells of. It takes OUT's place when it is whole. It is for one goroutine.
type Sheet struct {
	Format Format
	draft
	buf    *bufio.Writer
	packer io.WriteCloser // nil: it is not compressed
}

// CheckSheet says whether an export can be written under a name; where format is
// empty its suffix names it. The error is an [*OutputError].
func CheckSheet(out string, format Format) error {
	named, packed := formatOf(uncompressed(out)), uncompressed(out) != out
	refuse := func(problem string) error { return &OutputError{Path: out, Problem: problem} }
	switch {
	case named == "" && format == "":
		return refuse("has a suffix that is not known; end it in " + formats + ", with .gz or .zst after it to compress it, or give --format")
	case named != "" && format != "" && named != format:
		return refuse(fmt.Sprintf("would hold %s under a name for %s; name another, or leave out --format", format, named))
	case packed && cmp.Or(format, named) == XLSX:
		return refuse("is a workbook, which is compressed in itself; name a file that ends in .xlsx")
	}
	return nil
}

// OpenSheet begins OUT, which [CheckSheet] allows. Whoever calls it ends with
// [Sheet.Commit] or [Sheet.Discard]. The error is an [*OutputError].
func OpenSheet(out string, format Format) (*Sheet, error) {
	if err := CheckSheet(out, format); err != nil {
		return nil, err
	}
	target, err := Target(out)
	if err != nil {
		return nil, err
	}
	s := &Sheet{Format: cmp.Or(format, formatOf(uncompressed(out))), draft: draft{path: target}}
	refuse := func(problem string, err error) error {
		return &OutputError{Path: out, Problem: problem, Err: cause(err)}
	}
	if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() {
		return nil, refuse("is no regular file; name another", nil)
	}
	if err := s.open(); err != nil {
		return nil, refuse("cannot be written; check that its directory is there and may be written to", err)
	}
	s.buf = bufio.NewWriterSize(s.file, 1<<16)
	switch packed := strings.ToLower(filepath.Ext(out)); {
	case s.Format == XLSX:
		err = s.workbook(s.buf)
	case packed == ".gz":
		s.packer = gzip.NewWriter(s.buf)
	case packed == ".zst":
		// Its window is what it takes of memory.
		s.packer, err = zstd.NewWriter(s.buf, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	}
	if err != nil {
		return nil, errors.Join(s.failed(err), s.Discard())
	}
	return s, nil
}

// Write adds to the file.
func (s *Sheet) Write(text []byte) (n int, err error) {
	switch {
	case s.book != nil:
		n, err = s.book.Write(text)
	case s.packer != nil:
		n, err = s.packer.Write(text)
	default:
		n, err = s.buf.Write(text)
	}
	if err != nil {
		err = s.failed(err)
	}
	return n, err
}

// Commit makes OUT what was written: after it, OUT is whole and on the disk. When
// it fails, OUT is what it was before, or whole; never half there.
func (s *Sheet) Commit() error {
	var err error
	switch {
	case s.book != nil:
		err = s.book.Close()
	case s.packer != nil:
		err = s.packer.Close()
	}
	if err = errors.Join(err, s.buf.Flush()); err != nil {
		return errors.Join(s.failed(err), s.Discard())
	}
	return s.commit()
}

// Discard gives up what was written and leaves OUT alone. After [Sheet.Commit] it
// does nothing, so that it may be deferred.
func (s *Sheet) Discard() error { return s.discard() }
