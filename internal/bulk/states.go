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

	"github.com/kyclink/kyclink/internal/record"
)

// State is the last that a journal tells of one generation of a request. One
// of its members at least is there.
type State struct {
	// Record is the latest snapshot; nil where only an intent is known.
	Record *record.Record
	// Intent is a call of which no later snapshot tells what came of it.
	Intent *Intent
}

// identity is one generation of a request.
type identity struct {
	ApplicationID string `json:"application_id"`
	Generation    int    `json:"generation"`
}

// last is where the latest snapshot of one identity begins, or its intent where
// it has no snapshot.
type last struct {
	at       int64
	snapshot bool
	intent   *Intent
}

// States gives the latest state of everything that was in the journal when it
// was opened, in the order of their last lines; generations of one request are
// apart. It reads the journal twice: first for the places of the latest
// snapshots, then for those. So its memory is about 200 bytes a request,
// whatever the snapshots hold. A line that is broken, other than the torn last
// one, is an [*OutputError] that names it.
func (j *Journal) States() iter.Seq2[State, error] {
	return func(yield func(State, error) bool) {
		places, err := j.places()
		if err != nil {
			yield(State{}, err)
			return
		}
		r, pos := j.reader(), int64(0)
		for _, p := range places {
			s := State{Intent: p.intent}
			if p.snapshot {
				raw, err := skipTo(r, p.at-pos)
				if err == nil {
					pos = p.at + int64(len(raw))
					s.Record, err = readSnapshot(raw)
				}
				if err != nil {
					yield(State{}, j.trouble("cannot be read", err))
					return
				}
			}
			if !yield(s, nil) {
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

func readSnapshot(raw []byte) (*record.Record, error) {
	var l line
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, err
	}
	return l.Record.record(), nil
}

// places reads the whole journal and gives the last place of everything, in
// ascending order.
func (j *Journal) places() ([]last, error) {
	index := make(map[identity]last)
	r := j.reader()
	for at, number := int64(0), 1; ; number++ {
		raw, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && number > 1 {
			err = note(index, raw, at)
		}
		if err != nil {
			return nil, j.trouble(fmt.Sprintf("is broken at line %d; nothing was changed. "+
				"Look at that line: without it a link that was made may be made again", number), err)
		}
		at += int64(len(raw))
	}
	return slices.SortedFunc(maps.Values(index), func(a, b last) int { return int(a.at - b.at) }), nil
}

// note takes one line into the index.
func note(index map[identity]last, raw []byte, at int64) error {
	var l line
	if err := json.Unmarshal(raw, &l); err != nil {
		return err
	}
	switch {
	case l.Header == nil && l.Record == nil && l.Intent != nil && l.Intent.ApplicationID != "":
		id := identity{l.Intent.ApplicationID, l.Intent.Generation}
		known, ok := index[id]
		if !ok {
			known.at = at
		}
		known.intent = l.Intent
		index[id] = known
	case l.Header == nil && l.Intent == nil && l.Record != nil && l.Record.ApplicationID != "":
		id := identity{l.Record.ApplicationID, l.Record.Generation}
		known := last{at: at, snapshot: true}
		if l.Record.State == record.Calling {
			known.intent = index[id].intent // the call of which it tells nothing yet
		}
		index[id] = known
	default:
		return errors.New("it is neither an intent nor a record")
	}
	return nil
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
