package tasks

import "fmt"

// named are characters that nobody sees, by the name that people know them by.
var named = map[rune]string{
	'\u00a0': "a non-breaking space", '\u202f': "a narrow non-breaking space", '\u2007': "a figure space", '\u3000': "an ideographic space",
	'\u00ad': "a soft hyphen", '\u200b': "a zero-width space", '\u200c': "a zero-width non-joiner", '\u200d': "a zero-width joiner",
	'\u2060': "a word joiner", '\ufeff': "a byte order mark", '\u200e': "a left-to-right mark", '\u200f': "a right-to-left mark",
}

// character shows one that may not be used.
func character(c rune) string {
	if name := named[c]; name != "" {
		return fmt.Sprintf("%q (%s)", c, name)
	}
	return fmt.Sprintf("%q", c)
}
