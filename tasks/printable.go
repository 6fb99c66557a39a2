package tasks

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hiddenNames are the usual names of invisible characters.
var hiddenNames = map[rune]string{
	'\u00a0': "a non-breaking space", '\u202f': "a narrow non-breaking space", '\u2007': "a figure space", '\u3000': "an ideographic space",
	'\u00ad': "a soft hyphen", '\u200b': "a zero-width space", '\u200c': "a zero-width non-joiner", '\u200d': "a zero-width joiner",
	'\u2060': "a word joiner", '\ufeff': "a byte order mark", '\u200e': "a left-to-right mark", '\u200f': "a right-to-left mark",
}

func printable(s string) string {
	if utf8.RuneCountInString(s) > MaxApplicationID {
		return fmt.Sprintf("is longer than %d characters", MaxApplicationID)
	}
	return visible(s)
}

// visible refuses characters that people cannot see or distinguish, and U+FFFD, which
// replaces lost characters: with it, two IDs could become equal.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "" // ASCII, the usual case
	}
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for _, c := range s {
		if unicode.IsSpace(c) || !unicode.IsPrint(c) || c == utf8.RuneError ||
			unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return "contains " + character(c) + "; use printable characters without spaces"
		}
	}
	return ""
}

// character quotes a character, with its name if it is invisible.
func character(c rune) string {
	if name := hiddenNames[c]; name != "" {
		return fmt.Sprintf("%q (%s)", c, name)
	}
	return fmt.Sprintf("%q", c)
}
