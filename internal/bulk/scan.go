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
	s := &scanner{Scanner: bufio.NewScanner(r), next: 1, end: func() {}}
	s.cut = func(data []byte, full bool) int { return recordEnd(data, in.comma(), full) }
	s.blank = func(row []byte) bool { return string(row) == "\n" || string(row) == "\r\n" }
	if in.format == NDJSON {
		s.cut, s.blank = lineEnd, func(row []byte) bool { return len(bytes.TrimSpace(row)) == 0 }
	}
	s.Buffer(make([]byte, 64<<10), MaxRow)
	s.Split(s.split)
	return s
}

func (s *scanner) split(data []byte, atEOF bool) (int, []byte, error) {
	start := 0
	if s.tooLong {
		start = bytes.IndexByte(data, '\n') + 1
		if start == 0 {
			return len(data), nil, nil
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
	s.next += bytes.Count(data[:n], []byte("\n"))
	return start + n, data[:n], nil
}

// row goes on to the next row that is not blank.
func (s *scanner) row() bool {
	for s.Scan() {
		if s.tooLong || !s.blank(s.Bytes()) {
			return true
		}
	}
	return false
}

// lineEnd cuts after the first line break.
func lineEnd(data []byte, _ bool) int { return bytes.IndexByte(data, '\n') + 1 }
