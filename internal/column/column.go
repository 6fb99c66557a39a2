// Package column names the columns of the files that kyclink reads and writes:
// those that are keys of a request, and those that a result adds. It also
// detects and escapes cells that a spreadsheet would evaluate.
package column

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

// ID is the key of a request's application id.
const ID = "application_id"

// DocumentOptional is the only key with a boolean value.
const DocumentOptional = "document_optional"

// Statuses that occur in files only.
const (
	// Rejected is the status of a row that was not accepted.
	Rejected tasks.Status = "rejected"
	// Erased is the status of a row whose request is no longer stored.
	Erased tasks.Status = "erased"
)

// Rejection returns the result of a row that was not accepted: the reason, and the
// existing link of its id, if any.
func Rejection(reason fault.Reason, message string, existing tasks.Link) tasks.Link {
	l := tasks.Link{Status: Rejected, Reason: string(reason), Message: message}
	if existing.URL != "" {
		l.LinkID, l.URL, l.ExpiresAt = existing.LinkID, existing.URL, existing.ExpiresAt
		l.Attempts, l.PossibleDuplicates = existing.Attempts, existing.PossibleDuplicates
	}
	return l
}

// results are the columns that follow the input's columns.
var results = [...]string{"status", "link_id", "url", "expires_at", "reason", "attempts", "possible_duplicates"}

// Results returns the names of the result columns, in order.
func Results() []string { return slices.Clone(results[:]) }

// IsResult reports whether name is a result column.
func IsResult(name string) bool { return slices.Contains(results[:], name) }

// IsNumber reports whether a result column holds numbers.
func IsNumber(name string) bool { return name == "attempts" || name == "possible_duplicates" }

// ResultCells returns the values of the result columns for a link. Missing values
// are empty.
func ResultCells(l tasks.Link) []string {
	expires := ""
	if !l.ExpiresAt.IsZero() {
		expires = l.ExpiresAt.UTC().Format(time.RFC3339)
	}
	reason := l.Reason
	if l.Message != "" {
		reason += ": " + l.Message
	}
	return []string{string(l.Status), l.LinkID, l.URL, expires, reason,
		strconv.Itoa(l.Attempts), strconv.Itoa(l.PossibleDuplicates)}
}

// IsKey reports whether name is exactly a key of a request.
func IsKey(name string) bool { return slices.Contains(tasks.Keys(), name) }

// Bool normalizes the words for true and false that people and spreadsheets use to
// "true" and "false". It returns any other cell unchanged.
func Bool(cell string) string {
	switch strings.ToLower(cell) {
	case "true", "yes", "1":
		return "true"
	case "false", "no", "0":
		return "false"
	}
	return cell
}
