package bulk

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

// compressions are known by what their data begins with; a suffix only says what
// to expect.
var compressions = [...]struct {
	suffix, name, magic string
	open                func(*bufio.Reader) (io.Reader, func(), error)
}{
	{".gz", "gzip", "\x1f\x8b", openGzip},
	{".zst", "zstd", "\x28\xb5\x2f\xfd", openZstd},
}

// uncompressed takes the suffix of a compression off a path.
func uncompressed(path string) string {
	ext := filepath.Ext(path)
	for _, c := range compressions {
		if strings.EqualFold(ext, c.suffix) {
			return strings.TrimSuffix(path, ext)
		}
	}
	return path
}

// decompress gives the plain text of what may be compressed, and what is to be
// called when it was read.
func (in *Input) decompress(raw io.Reader) (io.Reader, func(), error) {
	buffered := bufio.NewReaderSize(raw, 64<<10)
	if in.file == nil || in.kind == XLSX { // whoever sends a body may not choose what it takes to unpack it; a workbook was unpacked
		return buffered, func() {}, nil
	}
	start, _ := buffered.Peek(4) // an error comes again where the text is read
	for _, c := range compressions {
		if bytes.HasPrefix(start, []byte(c.magic)) {
			plain, end, err := c.open(buffered)
			if err != nil {
				return nil, nil, in.unusable("is not readable as "+c.name, err)
			}
			return plain, end, nil
		}
		if strings.EqualFold(filepath.Ext(in.path), c.suffix) {
			return nil, nil, in.unusable("ends in "+c.suffix+" and does not hold "+c.name+" data; check how it was made", nil)
		}
	}
	return buffered, func() {}, nil
}

// openGzip reads one member after the other. Zeros after the last one are what
// tapes and block devices fill up with.
func openGzip(r *bufio.Reader) (io.Reader, func(), error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	z.Multistream(false)
	return &members{Reader: z, raw: r}, func() {}, nil
}

// members is the text of all members of a gzip file.
type members struct {
	*gzip.Reader
	raw *bufio.Reader
}

func (m *members) Read(p []byte) (int, error) {
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

// next begins the next member; io.EOF where there is none.
func (m *members) next() error {
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

// openZstd decodes in the goroutine that reads, and takes windows of up to 128
// MiB, which is what `zstd --long` needs.
func openZstd(r *bufio.Reader) (io.Reader, func(), error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, nil, err
	}
	return z, z.Close, nil
}
