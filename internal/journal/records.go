package journal

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

// headerStart is how a journal begins.
const headerStart = `{"journal":`

// entry is one line of a journal: exactly one of its members is set.
type entry struct {
	Header *Header           `json:"journal,omitempty"`
	Record *request.Snapshot `json:"record,omitempty"`
}

// generation is one generation of a request.
type generation struct {
	applicationID string
	number        int
}

// Records gives the latest snapshot of each generation of each request that the
// journal held when it was opened, in the order in which these were written. It reads
// the journal twice, first for the offsets of the latest snapshots, then for these;
// so it needs about 150 bytes of memory per request, whatever the snapshots hold. An
// invalid line is an [*Error] that names it.
func (j *Journal) Records() iter.Seq2[request.Record, error] {
	return func(yield func(request.Record, error) bool) {
		offsets, err := j.offsets()
		if err != nil {
			yield(request.Record{}, err)
			return
		}
		reader, at := j.reader(), int64(0)
		for _, offset := range offsets {
			raw, err := skipTo(reader, offset-at)
			at = offset + int64(len(raw))
			var r request.Record
			if err == nil {
				r, err = readSnapshot(raw)
			}
			if err != nil {
				yield(request.Record{}, j.readError("not readable", err))
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

// readSnapshot parses a line. It fails for a record that a ledger could not restore.
func readSnapshot(raw []byte) (request.Record, error) {
	var l entry
	if err := json.Unmarshal(raw, &l); err != nil {
		return request.Record{}, err
	}
	if l.Header != nil || l.Record == nil || l.Record.ApplicationID == "" || l.Record.Generation < 1 {
		return request.Record{}, errors.New("not a record of a request")
	}
	r := l.Record.Record()
	_, err := r.Encode()
	return r, err
}

// offsets reads the whole journal and returns where the latest snapshot of each
// generation begins, in ascending order.
func (j *Journal) offsets() ([]int64, error) {
	latest := make(map[generation]int64)
	reader := j.reader()
	for at, number := int64(0), 1; ; number++ {
		raw, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && number > 1 {
			var r request.Record
			r, err = readSnapshot(raw)
			latest[generation{r.ApplicationID, r.Generation}] = at
		}
		if err != nil {
			return nil, j.readError(fmt.Sprintf("line %d is invalid; nothing was changed. "+
				"Examine that line: without it a link that exists may be made again", number), err)
		}
		at += int64(len(raw))
	}
	return slices.Sorted(maps.Values(latest)), nil
}

// measure sets the size of the complete lines, and returns the first line, or the
// part of it that exists.
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
