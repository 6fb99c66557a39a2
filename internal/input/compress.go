package input

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compressions are recognized by the first bytes of the data. If a suffix names one, the
// data must have it.
var compressions = [...]struct {
	suffix, name, magic string
	open                func(*bufio.Reader) (io.Reader, func(), error)
}{
	{".gz", "gzip", "\x1f\x8b", openGzip},
	{".zst", "zstd", "\x28\xb5\x2f\xfd", openZstd},
}

// Uncompressed removes the suffix of a compression from a path.
func Uncompressed(path string) string {
	ext := filepath.Ext(path)
	for _, c := range compressions {
		if strings.EqualFold(ext, c.suffix) {
			return strings.TrimSuffix(path, ext)
		}
	}
	return path
}

// decompress returns the plain text of a file that may be compressed, and a function
// to call when it is no longer read.
func (in *File) decompress(raw io.Reader) (io.Reader, func(), error) {
	buffered := bufio.NewReaderSize(raw, 64<<10)
	// A body is not unpacked: a small one could expand to any size. A workbook is already
	// unpacked.
	if in.isUpload() || in.kind == XLSX {
		return buffered, func() {}, nil
	}
	start, _ := buffered.Peek(4) // the next read returns the same error
	for _, c := range compressions {
		if bytes.HasPrefix(start, []byte(c.magic)) {
			plain, end, err := c.open(buffered)
			if err != nil {
				return nil, nil, in.openError("not readable as "+c.name, err)
			}
			return plain, end, nil
		}
		if strings.EqualFold(filepath.Ext(in.path), c.suffix) {
			return nil, nil, in.openError("the name ends in "+c.suffix+", but the file holds no "+c.name+" data; check how it was made", nil)
		}
	}
	return buffered, func() {}, nil
}

// openGzip reads all members. It ignores zeros after the last one, which tapes and
// block devices pad with.
func openGzip(r *bufio.Reader) (io.Reader, func(), error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	z.Multistream(false)
	return &gzipMembers{Reader: z, raw: r}, func() {}, nil
}

// gzipMembers reads the text of all members of a gzip file.
type gzipMembers struct {
	*gzip.Reader
	raw *bufio.Reader
}

func (m *gzipMembers) Read(p []byte) (int, error) {
	for {
		n, err := m.Reader.Read(p)
		if errors.Is(err, io.EOF) {
			err = m.next()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next begins the next member; io.EOF if there is none.
func (m *gzipMembers) next() error {
	for {
		b, err := m.raw.ReadByte()
		if err != nil {
			return err
		}
		if b == 0 {
			continue
		}
		if err := m.raw.UnreadByte(); err != nil {
			return err
		}
		err = m.Reset(m.raw)
		m.Multistream(false)
		return err
	}
}

// openZstd decodes in the goroutine that reads. It accepts windows of up to 128 MiB,
// which `zstd --long` writes.
func openZstd(r *bufio.Reader) (io.Reader, func(), error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, nil, err
	}
	return z, z.Close, nil
}
