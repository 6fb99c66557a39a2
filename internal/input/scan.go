package input

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// maxRow is the longest row that is read, in bytes. A longer one is an invalid row.
const maxRow = 1 << 20

// scanner splits a text into rows. Every row ends with its line break, except one
// that is too long.
type scanner struct {
	*bufio.Scanner
	// cut returns the length of the first row of data, with its line break, or 0 if
	// data does not show it; final says that no more data follows.
	cut   func(data []byte, final bool) int
	blank func(row []byte) bool // reports which rows are skipped

	records bool // count each record as one line: of a sheet
	peeked  bool // row returns the current row once more
	line    int  // where the current row starts, from 1
	next    int  // where the next row starts
	tooLong bool // the current row is the beginning of one that is longer than maxRow

	end func() // to call when it is no longer read
}

func (in *File) scan() (*scanner, error) {
	text, end, err := in.content()
	if err != nil {
		return nil, err
	}
	s := in.scanFrom(io.MultiReader(text, strings.NewReader("\n")))
	s.end = end
	return s, nil
}

// scanFrom splits a text that ends with a line break. Without a final line break
// there is no row, so that half a row of a failing disk is never taken for a row.
func (in *File) scanFrom(r io.Reader) *scanner {
	s := &scanner{Scanner: bufio.NewScanner(r), next: 1, end: func() {}, records: in.kind == XLSX}
	s.cut, s.blank = lineEnd, in.isBlank
	if in.format == NDJSON {
		s.blank = func(row []byte) bool { return len(bytes.TrimSpace(row)) == 0 }
	}
	s.Buffer(make([]byte, 64<<10), maxRow)
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
	n := s.cut(data, atEOF || len(data) >= maxRow)
	if n == 0 {
		if len(data) < maxRow {
			return start, nil, nil
		}
		n, s.tooLong = len(data), true
	}
	if s.records {
		s.next++
	} else {
		s.next += countLines(data[:n])
	}
	return start + n, data[:n], nil
}

// row advances to the next row that is not blank.
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

// peek reports whether there is another row, to which row then advances.
func (s *scanner) peek() bool {
	s.peeked = s.row()
	return s.peeked
}

// lookAhead is how many bytes are searched for a line break at a time.
const lookAhead = 1 << 10

// lineEnd returns the length of the first line with its line break: LF, CRLF, or the
// single CR of an old Mac. It returns 0 if data has none, or perhaps only its first
// half.
func lineEnd(data []byte, final bool) int {
	for at := 0; at < len(data); at += lookAhead {
		part := data[at:min(at+lookAhead, len(data))]
		lf := bytes.IndexByte(part, '\n')
		if lf >= 0 {
			part = part[:lf]
		}
		if cr := bytes.IndexByte(part, '\r'); cr >= 0 {
			return afterCR(data, at+cr, final)
		}
		if lf >= 0 {
			return at + lf + 1
		}
	}
	return 0
}

// afterCR returns the end of the line break that begins with the CR at data[cr], or 0
// if data ends with it and more may follow.
func afterCR(data []byte, cr int, final bool) int {
	switch {
	case cr+1 == len(data) && !final:
		return 0
	case cr+1 < len(data) && data[cr+1] == '\n':
		return cr + 2
	}
	return cr + 1
}

// countLines counts line breaks of any kind.
func countLines(text []byte) int {
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
