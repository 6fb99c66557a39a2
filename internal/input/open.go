package input

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/kyclink/kyclink/internal/workbook"
)

// Stdin is the path of the standard input.
const Stdin = "-"

// Open opens a file of requests. The error is an [*Error] if the file cannot be used
// at all: then none of it was read.
func Open(path string, o Options) (*File, error) {
	in := newFile(path, o)
	// Checked before opening, as opening a pipe without a writer blocks.
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir() && !info.Mode().IsRegular():
		return nil, in.openError("not a regular file, but it is read more than once; save it to a file first", nil)
	case err == nil && info.Mode().IsRegular() && in.kind == "":
		return nil, in.openError("unknown suffix; use "+compressedSuffixes, nil)
	}
	return in.open()
}

func newFile(path string, o Options) *File {
	in := &File{path: path, kind: cmp.Or(o.Format, FormatOf(Uncompressed(path))), options: o}
	if in.format = in.kind; in.kind == XLSX {
		in.format = CSV
	}
	return in
}

// OpenStream opens a file that is read only once; it may be a pipe or [Stdin]. If
// ctx ends while the pipe is silent, reading fails.
func OpenStream(ctx context.Context, path string, o Options) (*File, error) {
	in := newFile(path, o)
	in.stream, in.ctx = true, ctx
	if path == Stdin {
		in.path, in.file = "standard input", os.Stdin
		return in.start()
	}
	return in.open()
}

// ReadStream reads the plain text of source once, such as the body of an HTTP
// request. The options must give the format. Errors call it name; source is not
// closed.
func ReadStream(source io.Reader, name string, o Options) (*File, error) {
	in := newFile(name, o)
	in.stream, in.source = true, source
	return in.start()
}

func (in *File) open() (*File, error) {
	info, err := os.Stat(in.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, in.openError("no such file; check the path", nil)
	case err != nil:
		return nil, in.openError("not readable", err)
	case info.IsDir():
		return nil, in.openError("a directory; name a file in it", nil)
	case in.kind == "":
		return nil, in.openError("unknown suffix; use "+compressedSuffixes+", or give --format", nil)
	}
	if in.file, err = os.Open(in.path); err != nil {
		return nil, in.openError("not readable", err)
	}
	return in.start()
}

// start reads the text up to the first row.
func (in *File) start() (*File, error) {
	err := in.readHead()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

func (in *File) readHead() error {
	var err error
	if in.file != nil {
		if in.stat, err = in.file.Stat(); err != nil {
			return in.openError("not readable", err)
		}
		in.size = in.stat.Size()
	}
	if in.kind == XLSX {
		if err := in.unpackWorkbook(); err != nil {
			return err
		}
	}
	if in.scanner, err = in.scan(); err != nil {
		return err
	}
	if in.format == CSV {
		err = in.readHeader(in.scanner)
	} else {
		in.names, err = in.mapNames(nil)
	}
	if err != nil {
		return err
	}
	return in.requireRow(in.scanner)
}

// unpackWorkbook replaces a workbook by a copy of its sheet as CSV, in which every
// row of the sheet is a record.
func (in *File) unpackWorkbook() error {
	switch {
	case !in.regular():
		return in.openError("a workbook cannot be read from a pipe; save it to a file first", nil)
	case Uncompressed(in.path) != in.path:
		return in.openError("a workbook that is compressed again; unpack it first", nil)
	}
	source := workbook.Source{File: in.file, Path: in.path, Size: in.size, Sheet: in.options.Sheet, SheetHint: "--sheet names another", IDColumn: in.idColumn}
	if in.isUpload() {
		source.SheetHint = "name another one to read that"
	}
	sheet, warnings, err := source.CSV()
	if err != nil {
		return in.openError("", err)
	}
	in.warnings = append(in.warnings, warnings...)
	if in.size, err = sheet.Seek(0, io.SeekCurrent); err == nil {
		err = in.file.Close()
	}
	in.file = sheet
	if err != nil {
		return in.openError("not readable", err)
	}
	return nil
}

// requireRow refuses a file without rows.
func (in *File) requireRow(s *scanner) error {
	if s.peek() {
		return nil
	}
	switch err := s.Err(); {
	case err != nil:
		return in.openError("not readable", err)
	case in.format == CSV:
		return in.openError("a header without rows; check that the file was saved completely", nil)
	}
	return in.openError("no requests, only blank lines", nil)
}
