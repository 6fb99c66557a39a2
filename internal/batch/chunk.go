// Package batch describes the rows of a batch and caches batch names.
package batch

import (
	"strconv"
	"strings"
)

// Row is a row in the order of its batch.
type Row struct {
	Row int // of the input, from 1
	// ApplicationID is empty where the request was erased.
	ApplicationID string
}

// ChunkRows is how many of the input's row numbers one chunk of a batch's order
// spans.
const ChunkRows = 100

// ParseChunk reads a chunk of a batch's order: how many of its rows joined, then a line
// for each row, "row id", or "row" alone where the request was erased. What is
// no such line is left out.
func ParseChunk(chunk string) []Row {
	lines := make([]Row, 0, ChunkRows)
	_, rest, _ := strings.Cut(chunk, "\n")
	for text := range strings.SplitSeq(rest, "\n") {
		number, id, _ := strings.Cut(text, " ")
		if row, err := strconv.Atoi(number); err == nil {
			lines = append(lines, Row{row, id})
		}
	}
	return lines
}
