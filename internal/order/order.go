// Package order reads the order of a batch: its rows as the input has them, in chunks.
package order

import (
	"strconv"
	"strings"
)

// Row is a row of a batch.
type Row struct {
	Row int // of the input, from 1
	// ApplicationID is empty where the request was erased.
	ApplicationID string
}

// ChunkRows is how many row numbers of the input one chunk spans.
const ChunkRows = 100

// ParseChunk reads a chunk: how many of its rows joined, then a line for each row,
// "row id", or "row" alone where the request was erased. Other rows are left out.
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
