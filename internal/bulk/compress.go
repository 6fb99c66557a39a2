package bulk

import (
	"bufio"
	"bytes"
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
	open                func(io.Reader) (io.Reader, func(), error)
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
	if in.file == nil { // whoever sends it may not choose what it takes to unpack it
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

func openGzip(r io.Reader) (io.Reader, func(), error) {
	z, err := gzip.NewReader(r)
	return z, func() {}, err
}

// openZstd decodes in the goroutine that reads, and takes windows of up to 128
// MiB, which is what `zstd --long` needs.
func openZstd(r io.Reader) (io.Reader, func(), error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, nil, err
	}
	return z, z.Close, nil
}
