// Package bulk is files in, files out: it reads the requests of a CSV, XLSX or
// NDJSON file row by row, writes the same rows with what came of them, and
// keeps the journal that lets an interrupted run go on.
//
// It neither enqueues nor decides anything. Cells are written as they were
// read, also those that a spreadsheet would take for a formula, because changing
// them would change somebody's data; a file that people open in a spreadsheet is
// written with that asked for.
package bulk

import (
	"crypto/rand"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

// Format is how a file holds its rows.
type Format string

// The formats. CSV is RFC 4180, its header names the request's keys. NDJSON holds
// one request as a JSON object a line. XLSX is a workbook, of which one sheet is
// read as a CSV.
const (
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
	XLSX   Format = "xlsx"
)

const formats = ".csv, .xlsx, .ndjson or .jsonl"

const compressedFormats = formats + ", which may be followed by .gz or .zst"

// formatOf reads the format off a path's suffix; empty where it says none.
func formatOf(path string) Format {
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

// InputError says why an input file cannot be used at all, and what to do
// about it. A row that is wrong is no InputError; see [Row].
type InputError struct {
	Path    string
	Problem string
	Err     error // the cause, where there is one
}

func (e *InputError) Error() string { return explain("input file "+e.Path, e.Problem, e.Err) }

// Unwrap gives the cause.
func (e *InputError) Unwrap() error { return e.Err }

// OutputError says why OUT or its journal cannot be used, and what to do.
type OutputError struct {
	Path    string
	Problem string
	Err     error // the cause, where there is one
}

func (e *OutputError) Error() string { return explain("output file "+e.Path, e.Problem, e.Err) }

// Unwrap gives the cause.
func (e *OutputError) Unwrap() error { return e.Err }

// Fatal says that a worker that meets this error must end: a call of which the
// journal cannot know would be made again by the next run.
func (*OutputError) Fatal() bool { return true }

func explain(what, problem string, err error) string {
	if err != nil {
		problem += ": " + err.Error()
	}
	return what + " " + problem
}

// Rejected is the status of a row that was not accepted, a word of files only.
const Rejected tasks.Status = "rejected"

// Rejection is what [Output.Write] shows of a row that was not accepted: why, and
// the link that exists for its id, if any.
func Rejection(reason fault.Reason, message string, exists tasks.Link) tasks.Link {
	l := tasks.Link{Status: Rejected, Reason: string(reason), Message: message}
	if exists.URL != "" {
		l.LinkID, l.URL, l.ExpiresAt = exists.LinkID, exists.URL, exists.ExpiresAt
		l.Attempts, l.PossibleDuplicates = exists.Attempts, exists.PossibleDuplicates
	}
	return l
}

// NewBatch makes up the name of a new run's batch. People recognise OUT in it
// where its name can be shown; what makes it unique is drawn.
func NewBatch(out string) string {
	label := filepath.Base(out)
	if len(label) > maxLabel || !utf8.ValidString(label) || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		label = "out"
	}
	return "run:" + label + ":" + rand.Text()
}

const maxLabel = 100 // bytes
