package column

import (
	"strings"
	"sync"
	"unicode"

	"github.com/kyclink/kyclink/tasks"
)

// aliases are common names of columns for a request's keys, folded.
var aliases = map[string][]string{
	"application_id":    {"appid", "applicationno", "applicationnr", "applicationnumber", "applicationref", "applicationreference"},
	"redirect_url":      {"redirect", "redirecturi", "redirectlink"},
	"expiry_minutes":    {"expirytime", "expiryinminutes", "expirymins", "expirationminutes"},
	"document_optional": {"documentisoptional", "optionaldocument"},
	"workflow_id":       {"workflow"},
	"callback_url":      {"callback", "callbackuri", "webhook", "webhookurl"},
}

// keys maps each folded name and alias to its key.
var keys = sync.OnceValue(func() map[string]string {
	names := make(map[string]string)
	for _, key := range tasks.Keys() {
		names[Fold(key)] = key
		for _, alias := range aliases[key] {
			names[alias] = key
		}
	}
	return names
})

// Key returns the key of a request that a column name means, or "". It ignores case,
// blanks, _ and -.
func Key(name string) string { return keys()[Fold(name)] }

// Fold returns a column name in lower case, without blanks, _, - and invisible
// characters, which people write differently.
func Fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// Limits of the edit distance within which a name is taken for a misspelled key.
const (
	nearEdits = 2
	// Two edits turn a short name into another word: "name" and "date" are within
	// two edits of "lane".
	shortName      = 6
	nearEditsShort = 1
)

// NearKey returns the key that a name probably misspells. It returns "" if the name
// is close to none, or means a key exactly.
func NearKey(name string) string {
	folded := []rune(Fold(name))
	best, nearest := nearEdits+1, ""
	for known, key := range keys() {
		limit := nearEdits
		if len(known) <= shortName {
			limit = nearEditsShort
		}
		d := editDistance(folded, []rune(known), limit)
		if d == 0 {
			return ""
		}
		if d <= limit && (d < best || d == best && key < nearest) {
			best, nearest = d, key
		}
	}
	return nearest
}

// editDistance returns how many letters must be inserted, removed, replaced or
// swapped with their neighbor to turn a into b, or more than limit if it is more.
func editDistance(a, b []rune, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	var beforeLast []int
	last := make([]int, len(b)+1)
	for k := range last {
		last[k] = k
	}
	for i := range a {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for k := range b {
			cost := 1
			if a[i] == b[k] {
				cost = 0
			}
			row[k+1] = min(last[k]+cost, last[k+1]+1, row[k]+1)
			if i > 0 && k > 0 && a[i] == b[k-1] && a[i-1] == b[k] {
				row[k+1] = min(row[k+1], beforeLast[k-1]+1)
			}
		}
		beforeLast, last = last, row
	}
	return last[len(b)]
}
