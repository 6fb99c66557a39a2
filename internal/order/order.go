// Package order parses the order of a batch: its rows in input order, in chunks.
package order

import (
	"strconv"
	"strings"
)

// Row is a row of a batch.
type Row struct {
	Row int // number in the input, from 1
	// ApplicationID is empty if the request was erased.
	ApplicationID string
}

// ChunkRows is the number of input rows that one chunk spans.
const ChunkRows = 100

// ParseChunk returns the rows of a chunk. Its first line is the number of joined rows; then
// each accepted row has a line "row id", or "row" if its request was erased.
func ParseChunk(chunk string) []Row {
	rows := make([]Row, 0, ChunkRows)
	_, rest, _ := strings.Cut(chunk, "\n")
	for text := range strings.SplitSeq(rest, "\n") {
		number, id, _ := strings.Cut(text, " ")
		if row, err := strconv.Atoi(number); err == nil {
			rows = append(rows, Row{row, id})
		}
	}
	return rows
}
