package output

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

	"github.com/kyclink/kyclink/internal/input"
)

// File is a file that text is written to, compressed if its name ends in .gz or .zst.
// For a workbook the text is CSV, whose records become rows. The file appears under
// its name on [File.Commit]. It is for one goroutine.
type File struct {
	Format     input.Format
	file       replacement
	buf        *bufio.Writer
	compressor io.WriteCloser // nil: not compressed
	text       []byte         // for a workbook: an incomplete record
}

// CheckFile reports whether a file can be written under a name. If format is empty,
// its suffix must name one. The error is an [*Error].
func CheckFile(out string, format input.Format) error {
	named, compressed := input.FormatOf(input.Uncompressed(out)), input.Uncompressed(out) != out
	switch {
	case named == "" && format == "":
		return newError(out, "unknown suffix; use "+input.Suffixes+", followed by .gz or .zst to compress it, or give --format", nil)
	case named != "" && format != "" && named != format:
		return newError(out, fmt.Sprintf("the name ends like %s, but --format is %s; change one of them", named, format), nil)
	case compressed && cmp.Or(format, named) == input.XLSX:
		return newError(out, "a workbook is compressed already; name a file that ends in .xlsx", nil)
	}
	return nil
}

// CreateFile begins a file that [CheckFile] allows. The caller ends with
// [File.Commit] or [File.Discard]. The error is an [*Error].
func CreateFile(out string, format input.Format) (*File, error) {
	if err := CheckFile(out, format); err != nil {
		return nil, err
	}
	target, err := Resolve(out)
	if err != nil {
		return nil, err
	}
	f := &File{Format: cmp.Or(format, input.FormatOf(input.Uncompressed(out))), file: replacement{path: target}}
	if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() {
		return nil, newError(out, "not a regular file; name another file", nil)
	}
	if err := f.file.create(); err != nil {
		return nil, newError(out, "; check that its directory exists and is writable", err)
	}
	f.buf = bufio.NewWriterSize(f.file.file, 1<<16)
	switch suffix := strings.ToLower(filepath.Ext(out)); {
	case f.Format == input.XLSX:
		err = f.file.createWorkbook(f.buf)
	case suffix == ".gz":
		f.compressor = gzip.NewWriter(f.buf)
	case suffix == ".zst":
		// The window is held in memory.
		f.compressor, err = zstd.NewWriter(f.buf, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	}
	if err != nil {
		return nil, errors.Join(f.file.failed(err), f.Discard())
	}
	return f, nil
}

// Write adds text to the file.
func (f *File) Write(text []byte) (n int, err error) {
	switch {
	case f.file.book != nil:
		n, err = len(text), f.writeRecords(text)
	case f.compressor != nil:
		n, err = f.compressor.Write(text)
	default:
		n, err = f.buf.Write(text)
	}
	if err != nil {
		err = f.file.failed(err)
	}
	return n, err
}

// writeRecords adds the complete records of the text so far to the workbook.
func (f *File) writeRecords(text []byte) error {
	f.text = append(f.text, text...)
	at := 0
	for {
		cells, size, err := input.CutRecord(f.text[at:])
		if err == nil && size > 0 {
			err = f.file.book.Write(cells)
		}
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		at += size
	}
	f.text = append(f.text[:0], f.text[at:]...)
	return nil
}

// Commit replaces the file: then it is complete and on the disk. If it fails, the
// file is as before or complete, never in between.
func (f *File) Commit() error {
	var err error
	switch {
	case f.file.book != nil:
		err = f.file.book.Close()
	case f.compressor != nil:
		err = f.compressor.Close()
	}
	if err = errors.Join(err, f.buf.Flush()); err != nil {
		return errors.Join(f.file.failed(err), f.Discard())
	}
	return f.file.commit()
}

// Discard drops what was written and leaves the file as it was. After [File.Commit]
// it does nothing.
func (f *File) Discard() error { return f.file.discard() }
