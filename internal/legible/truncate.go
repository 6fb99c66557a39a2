package legible

import "strings"

// maxName is the length of a name in messages, in characters.
const maxName = 128

// Shorten truncates a name that a caller chose to 128 characters, since it is repeated
// in answers, logs and files.
func Shorten(name string) string { return Truncate(name, maxName) }

// Truncate returns text with at most limit characters. A shortened text is a copy,
// which does not keep the rest in memory.
func Truncate(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	characters := 0
	for i := range text {
		if characters++; characters > limit {
			return strings.Clone(text[:i]) + "…"
		}
	}
	return text
}
