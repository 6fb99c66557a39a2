package bulk

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// MaxRow is the longest row that is read, in bytes. A longer one is a bad row.
const MaxRow = 1 << 20

// scanner cuts a file into rows. Every row but one that is too long ends with
// its line break, the last one of the file as well.
type scanner struct {
	*bufio.Scanner
	// cut says how long the first row of data is, with its line break. It gives
	// 0 where data does not show it; full says that there will not be more data.
	cut   func(data []byte, full bool) int
	blank func(row []byte) bool // says which rows are skipped

	records bool // a record is one line, whatever it holds: of a sheet
	peeked  bool // the current row is still to be given by row
	line    int  // where the current row starts, from 1
	next    int  // where the row after it starts
	tooLong bool // the current row is the beginning of one that is longer than MaxRow

	end func() // to be called when it is not read any more
}

func (in *Input) scan() (*scanner, error) {
	text, end, err := in.content()
	if err != nil {
		return nil, err
	}
	s := in.scanFrom(io.MultiReader(text, strings.NewReader("\n")))
	s.end = end
	return s, nil
}

// scanFrom takes a reader that ends with a line break. Only at its true end, so
// that half a row, which is what a failing disk leaves, is never taken for one.
func (in *Input) scanFrom(r io.Reader) *scanner {
	s := &scanner{Scanner: bufio.NewScanner(r), next: 1, end: func() {}, records: in.kind == XLSX}
	s.cut, s.blank = lineEnd, in.blankCSV
	if in.format == NDJSON {
		s.blank = func(row []byte) bool { return len(bytes.TrimSpace(row)) == 0 }
	}
	s.Buffer(make([]byte, 64<<10), MaxRow)
	s.Split(s.split)
	return s
}

func (s *scanner) split(data []byte, atEOF bool) (int, []byte, error) {
	start := 0
	if s.tooLong {
		start = lineEnd(data, atEOF)
		if start == 0 {
			return len(bytes.TrimSuffix(data, []byte("\r"))), nil, nil
		}
		s.tooLong = false
		s.next++
	}
	data = data[start:]
	s.line = s.next
	n := s.cut(data, atEOF || len(data) >= MaxRow)
	if n == 0 {
		if len(data) < MaxRow {
			return start, nil, nil
		}
		n, s.tooLong = len(data), true
	}
	if s.records {
		s.next++
	} else {
		s.next += lines(data[:n])
	}
	return start + n, data[:n], nil
}

// row goes on to the next row that is not blank.
func (s *scanner) row() bool {
	if s.peeked {
		s.peeked = false
		return true
	}
	for s.Scan() {
		if s.tooLong || !s.blank(s.Bytes()) {
			return true
		}
	}
	return false
}

// peek says whether there is another row, which row then gives.
func (s *scanner) peek() bool {
	s.peeked = s.row()
	return s.peeked
}

// lookAhead is how much is searched for a line break at a time.
const lookAhead = 1 << 10

// lineEnd cuts after the first line break: LF, CRLF, or the CR alone of an old
// Mac. 0 where data does not show one, or only what may be the first half of one.
func lineEnd(data []byte, full bool) int {
	for at := 0; at < len(data); at += lookAhead {
		part := data[at:min(at+lookAhead, len(data))]
		lf := bytes.IndexByte(part, '\n')
		if lf >= 0 {
			part = part[:lf]
		}
		if cr := bytes.IndexByte(part, '\r'); cr >= 0 {
			return afterCR(data, at+cr, full)
		}
		if lf >= 0 {
			return at + lf + 1
		}
	}
	return 0
}

// afterCR gives the end of the line break that begins with the CR at data[cr]; 0
// where data ends with it, and more may follow.
func afterCR(data []byte, cr int, full bool) int {
	switch {
	case cr+1 == len(data) && !full:
		return 0
	case cr+1 < len(data) && data[cr+1] == '\n':
		return cr + 2
	}
	return cr + 1
}

// lines counts line breaks of any kind.
func lines(text []byte) int {
	n := bytes.Count(text, []byte("\n"))
	for at := 0; ; {
		cr := bytes.IndexByte(text[at:], '\r')
		if cr < 0 {
			return n
		}
		at += cr + 1
		if at == len(text) || text[at] != '\n' {
			n++
		}
	}
}
