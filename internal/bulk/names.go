package bulk

import (
	"strings"
	"sync"
	"unicode"

	"github.com/kyclink/kyclink/tasks"
)

// aliases are other names that files commonly have for a request's keys, folded.
var aliases = map[string][]string{
	"application_id":    {"appid", "applicationno", "applicationnr", "applicationnumber", "applicationref", "applicationreference"},
	"redirect_url":      {"redirect", "redirecturi", "redirectlink"},
	"expiry_minutes":    {"expirytime", "expiryinminutes", "expirymins", "expirationminutes"},
	"document_optional": {"documentisoptional", "optionaldocument"},
	"workflow_id":       {"workflow"},
	"callback_url":      {"callback", "callbackuri", "webhook", "webhookurl"},
}

// keyNames gives the key of each folded name.
var keyNames = sync.OnceValue(func() map[string]string {
	names := make(map[string]string)
	for _, key := range tasks.Keys() {
		names[fold(key)] = key
		for _, alias := range aliases[key] {
			names[alias] = key
		}
	}
	return names
})

// fold takes out of a name what people write differently: case, blanks, _ and -,
// and what nobody can see.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

const (
	nearEdits = 2
	// shortName is up to which length two edits make another word: "name" and
	// "date" are within two edits of "lane".
	shortName      = 6
	nearEditsShort = 1
)

// nearKey gives the key that a name was probably meant to be; empty where it is
// none's, and where it is a key's exactly.
func nearKey(name string) string {
	folded := []rune(fold(name))
	best, nearest := nearEdits+1, ""
	for known, key := range keyNames() {
		limit := nearEdits
		if len(known) <= shortName {
			limit = nearEditsShort
		}
		d := edits(folded, []rune(known), limit)
		if d == 0 {
			return ""
		}
		if d <= limit && (d < best || d == best && key < nearest) {
			best, nearest = d, key
		}
	}
	return nearest
}

// edits is the number of letters that must be inserted, removed, replaced or
// swapped with their neighbour to make b of a; more than limit where it is more.
func edits(a, b []rune, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	var before []int // the row before the last
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
				row[k+1] = min(row[k+1], before[k-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
