package search

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
)

// encode makes a cursor of a place, which is usable with the same filter only.
func encode(place string, f any) string {
	if place == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(sum(f) + place))
}

const unknownCursor = "is not one that was returned by this list"

// made matches what encode encodes.
var made = regexp.MustCompile(`^[0-9a-f]{8}[0-9]`)

// decode returns the place of a cursor.
func decode(cursor string, f any) (place string, err error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return "", &CursorError{unknownCursor}
	}
	place, ok := strings.CutPrefix(string(raw), sum(f))
	if !ok && !made.Match(raw) {
		return "", &CursorError{unknownCursor}
	}
	if !ok {
		return "", &CursorError{"belongs to another filter: repeat the filter of the first page, or begin without a cursor"}
	}
	return place, nil
}

// sum identifies a filter.
func sum(f any) string {
	text, err := json.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("encode a filter: %v", err)) // it has only strings, a number and times
	}
	h := fnv.New32a()
	_, _ = h.Write(text)
	return fmt.Sprintf("%08x", h.Sum32())
}
