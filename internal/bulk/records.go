package bulk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/kyclink/kyclink/internal/request"
)

// identity is one generation of a request.
type identity struct {
	applicationID string
	generation    int
}

// Records gives the latest snapshot of everything that was in the journal when
// it was opened, in the order in which they were written; generations of one
// request are apart. It reads the journal twice: first for the places of the
// latest snapshots, then for those. So its memory is about 150 bytes a request,
// whatever the snapshots hold. A line that is broken, other than the torn last
// one, is an [*OutputError] that names it.
func (j *Journal) Records() iter.Seq2[request.Record, error] {
	return func(yield func(request.Record, error) bool) {
		places, err := j.places()
		if err != nil {
			yield(request.Record{}, err)
			return
		}
		reader, at := j.reader(), int64(0)
		for _, place := range places {
			raw, err := skipTo(reader, place-at)
			at = place + int64(len(raw))
			var r request.Record
			if err == nil {
				r, err = readSnapshot(raw)
			}
			if err != nil {
				yield(request.Record{}, j.trouble("cannot be read", err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (j *Journal) reader() *bufio.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(j.file, 0, j.size), 1<<16)
}

func skipTo(r *bufio.Reader, n int64) ([]byte, error) {
	if _, err := r.Discard(int(n)); err != nil {
		return nil, err
	}
	return r.ReadBytes('\n')
}

// readSnapshot fails for a line that is no record, or one that could not be put
// back into a ledger.
func readSnapshot(raw []byte) (request.Record, error) {
	var l line
	if err := json.Unmarshal(raw, &l); err != nil {
		return request.Record{}, err
	}
	if l.Header != nil || l.Record == nil || l.Record.ApplicationID == "" || l.Record.Generation < 1 {
		return request.Record{}, errors.New("it is no record of a request")
	}
	r := l.Record.record()
	_, err := r.Encode()
	return r, err
}

// places reads the whole journal and gives where the latest snapshot of each
// identity begins, in ascending order.
func (j *Journal) places() ([]int64, error) {
	latest := make(map[identity]int64)
	reader := j.reader()
	for at, number := int64(0), 1; ; number++ {
		raw, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && number > 1 {
			var r request.Record
			r, err = readSnapshot(raw)
			latest[identity{r.ApplicationID, r.Generation}] = at
		}
		if err != nil {
			return nil, j.trouble(fmt.Sprintf("is broken at line %d; nothing was changed. "+
				"Look at that line: without it a link that was made may be made again", number), err)
		}
		at += int64(len(raw))
	}
	return slices.Sorted(maps.Values(latest)), nil
}

// measure finds where the last whole line ends, and gives the first line, or
// what there is of it.
func (j *Journal) measure() ([]byte, error) {
	info, err := j.file.Stat()
	if err != nil {
		return nil, err
	}
	first, err := bufio.NewReader(io.NewSectionReader(j.file, 0, min(info.Size(), 1<<16))).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	block := make([]byte, 1<<16)
	for end := info.Size(); end > 0; {
		start := max(0, end-int64(len(block)))
		n, err := j.file.ReadAt(block[:end-start], start)
		if err != nil {
			return nil, err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			j.size = start + int64(i) + 1
			return first, nil
		}
		end = start
	}
	return first, nil
}
