package bulk

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Sheet is a file that an export is written to, compressed where its name ends in
// .gz or .zst. It takes OUT's place when it is whole. It is for one goroutine.
type Sheet struct {
	Format Format
	draft
	buf    *bufio.Writer
	packer io.WriteCloser // nil: it is not compressed
}

// OpenSheet begins OUT; where format is empty OUT's suffix names it. Whoever calls
// it ends with [Sheet.Commit] or [Sheet.Discard]. The error is an [*OutputError].
func OpenSheet(out string, format Format) (*Sheet, error) {
	plain, packed := strings.ToLower(out), filepath.Ext(strings.ToLower(out))
	if packed == ".gz" || packed == ".zst" {
		plain = strings.TrimSuffix(plain, packed)
	}
	target, err := Target(out)
	if err != nil {
		return nil, err
	}
	s := &Sheet{Format: format, draft: draft{path: target}}
	if s.Format == "" {
		s.Format = formatOf(plain)
	}
	refuse := func(problem string, err error) error {
		return &OutputError{Path: out, Problem: problem, Err: cause(err)}
	}
	if s.Format == "" {
		return nil, refuse("has a suffix that is not known; end it in "+formats+", with .gz or .zst after it to compress it, or give --format", nil)
	}
	if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() {
		return nil, refuse("is no regular file; name another", nil)
	}
	if err := s.open(); err != nil {
		return nil, refuse("cannot be written; check that its directory is there and may be written to", err)
	}
	s.buf = bufio.NewWriterSize(s.file, 1<<16)
	switch packed {
	case ".gz":
		s.packer = gzip.NewWriter(s.buf)
	case ".zst":
		// Its window is what it takes of memory.
		s.packer, err = zstd.NewWriter(s.buf, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			return nil, errors.Join(s.failed(err), s.Discard())
		}
	}
	return s, nil
}

// Write adds to the file.
func (s *Sheet) Write(text []byte) (n int, err error) {
	if s.packer != nil {
		n, err = s.packer.Write(text)
	} else {
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
	if s.packer != nil {
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
