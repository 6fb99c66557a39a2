package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// HeaderLen is the length in bytes of the longest header: [Peek] needs no more of a record.
const HeaderLen = 74

// Version is the first byte of the records that this program writes, except for new ones. It
// reads those of version 1, too. Programs and scripts fail on a record of another version
// before they change anything. Within a version the columns are fixed, and unknown JSON keys
// are preserved.
const Version = '2'

const (
	version1     = '1'
	newRequest   = 'n' // the first byte of a shorter header, see lua/record.lua
	newHeaderLen = 20
)

// Parse parses a record. It fails if another version wrote it. With a [*ContentError] it
// also returns the fields of the header.
func Parse(applicationID string, raw []byte) (Record, error) {
	r, err := Peek(applicationID, raw)
	if err != nil {
		return Record{}, err
	}
	err = r.parseLines(raw[0], Body(raw))
	return r, err
}

// Peek is [Parse] without the content and the outcomes, which take most of its time. The
// header alone is enough.
func Peek(applicationID string, raw []byte) (Record, error) {
	c := columns{raw: raw}
	r := c.record()
	if c.problem != "" {
		return Record{}, fmt.Errorf("record of %q: %s", applicationID, c.problem)
	}
	r.ApplicationID = applicationID
	return r, nil
}

// Body returns what follows the header of a record that [Peek] can parse.
func Body(raw []byte) []byte { return raw[headerLen(raw):] }

func headerLen(raw []byte) int {
	if len(raw) > 0 && raw[0] == newRequest {
		return newHeaderLen
	}
	return HeaderLen
}

// columns reads the columns of a header, one after the other.
type columns struct {
	raw     []byte
	at      int
	problem string // why the header cannot be parsed
}

func (c *columns) record() Record {
	if len(c.raw) < headerLen(c.raw) {
		c.problem = "shorter than its header"
		return Record{}
	}
	switch version := c.letter(); version {
	case version1, Version:
		return c.full()
	case newRequest:
		r := Record{State: Waiting, Lane: Bulk, Generation: 1, Run: 1, Batch: c.number(6), AcceptedAt: c.time()}
		r.ChangedAt = r.AcceptedAt
		return r
	default:
		c.problem = fmt.Sprintf("version %q, this program reads version %q", version, Version)
		return Record{}
	}
}

func (c *columns) full() Record {
	state, lane := c.letter(), c.letter()
	r := Record{State: stateLetters[state], Lane: laneLetters[lane], CancelAsked: c.letterOf("-x") == 'x'}
	if r.State == "" || r.Lane == "" {
		c.problem = fmt.Sprintf("unknown state or lane %q", []byte{state, lane})
	}
	r.Generation, r.Run, r.Turn, r.Attempts, r.Charged = c.number(3), c.number(3), c.number(4), c.number(5), c.number(2)
	r.PossibleDuplicates, r.Batch, r.Seen = c.number(4), c.number(6), c.number(10)
	r.AcceptedAt, r.ChangedAt = c.time(), c.time()
	r.Holder = c.number(6)
	deadline := c.letterOf("-dn")
	r.Deadline, r.NoDeadline = deadline == 'd', deadline == 'n'
	return r
}

func (c *columns) letter() byte {
	c.at++
	return c.raw[c.at-1]
}

// letterOf reads one of these letters.
func (c *columns) letterOf(known string) byte {
	letter := c.letter()
	if strings.IndexByte(known, letter) < 0 {
		c.problem = fmt.Sprintf("unknown flag %q", letter)
	}
	return letter
}

func (c *columns) number(width int) int {
	n, err := strconv.ParseUint(string(c.raw[c.at:c.at+width]), 10, 63)
	if err != nil {
		c.problem = fmt.Sprintf("column %d is not a number", c.at+1)
	}
	c.at += width
	return int(n)
}

func (c *columns) time() time.Time { return time.UnixMilli(int64(c.number(13))).UTC() }

// PeekReason is [Peek] with the reason of the outcome.
func PeekReason(applicationID string, raw []byte) (Record, error) {
	r, err := Peek(applicationID, raw)
	if err != nil {
		return r, err
	}
	const outcomeLine = 3
	lines := bytes.SplitN(Body(raw), []byte("\n"), outcomeLine+1)
	if len(lines) < outcomeLine || len(lines[outcomeLine-1]) == 0 {
		return r, nil
	}
	var outcome struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(lines[outcomeLine-1], &outcome); err != nil {
		return r, &ContentError{applicationID, outcomeLine, err}
	}
	r.Outcome.Reason = outcome.Reason
	return r, nil
}

func (r *Record) parseLines(version byte, raw []byte) error {
	for i, line := range bytes.Split(raw, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var err error
		switch i {
		case 0:
			r.Content, err = parseContent(version, line)
		case 1:
			err = json.Unmarshal(line, &r.Resolved)
		case 2:
			err = json.Unmarshal(line, &r.Outcome)
		default:
			var past Outcome
			err = json.Unmarshal(line, &past)
			r.Past = append(r.Past, past)
		}
		if err != nil {
			return &ContentError{r.ApplicationID, i + 1, err}
		}
	}
	return nil
}

func parseContent(version byte, line []byte) (c Content, err error) {
	if version == version1 {
		err = json.Unmarshal(line, &c)
		return c, err
	}
	var stored storedContent
	err = json.Unmarshal(line, &stored)
	return Content(stored), err
}

// ParseHeader is [Parse] without the error for content that cannot be decoded.
func ParseHeader(applicationID string, raw []byte) (Record, error) {
	r, err := Parse(applicationID, raw)
	if _, ok := errors.AsType[*ContentError](err); ok {
		err = nil
	}
	return r, err
}

// ContentError reports that a record's header can be decoded and its content cannot.
type ContentError struct {
	ApplicationID string
	Line          int // from 1
	Err           error
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("record of %q: line %d: %v", e.ApplicationID, e.Line, e.Err)
}

func (e *ContentError) Unwrap() error { return e.Err }
