package input

import (
	"path/filepath"
	"strings"
)

// Format is the format of a file.
type Format string

// The formats. A CSV follows RFC 4180; its header names the request's keys. NDJSON
// holds one request per line as a JSON object. XLSX is a workbook, of which one sheet
// is read like a CSV.
const (
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
	XLSX   Format = "xlsx"
)

// Suffixes names the suffixes of the formats, for messages.
const Suffixes = ".csv, .xlsx, .ndjson or .jsonl"

const compressedSuffixes = Suffixes + ", optionally followed by .gz or .zst"

// FormatOf returns the format that a path's suffix names, or "".
func FormatOf(path string) Format {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		return CSV
	case ".ndjson", ".jsonl":
		return NDJSON
	case ".xlsx":
		return XLSX
	}
	return ""
}
