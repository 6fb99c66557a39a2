// Package legible escapes invisible characters in text for people: terminal escapes,
// and characters that hide in text or change its direction.
package legible

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Hidden reports whether a character is invisible or changes how others are shown:
// control, bidirectional and zero-width characters, line separators, and the
// replacement character.
func Hidden(c rune) bool {
	if c >= ' ' && c <= '~' {
		return false
	}
	return c == utf8.RuneError ||
		unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// WrongName describes the problem of a name that people type, such as a batch's, or
// returns "".
func WrongName(name string, mostBytes int) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > mostBytes:
		return fmt.Sprintf("is longer than %d bytes", mostBytes)
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case name[0] == '-':
		return "begins with -, as a flag does"
	case strings.TrimSpace(name) != name:
		return "has blanks around it"
	}
	for i, c := range name {
		if i == 0 && unicode.Is(unicode.M, c) {
			return fmt.Sprintf("begins with %+q, which would be shown as part of the text before it", c)
		}
		if Hidden(c) || c != ' ' && !unicode.IsPrint(c) {
			return fmt.Sprintf("contains %+q, which is invisible", c)
		}
	}
	return ""
}

// Text escapes hidden characters as \uXXXX, except line feeds and tabs.
func Text(s string) string {
	if plain(s) {
		return s
	}
	return string(appendLegible(nil, []byte(s)))
}

// Line escapes as [Text] does, and also line feeds and tabs, so that untrusted text cannot
// start a new line.
func Line(s string) string {
	return strings.NewReplacer("\n", `\u000a`, "\t", `\u0009`).Replace(Text(s))
}

// Writer escapes a stream as [Text] does. In JSON the escapes mean the same characters,
// so that the value does not change. It is safe for concurrent use.
type Writer struct {
	mu   sync.Mutex
	to   io.Writer
	part []byte // the first bytes of a character whose other bytes have not been written yet
}

// NewWriter returns a writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{to: w} }

// Unescaped returns the underlying writer, for files that must not be changed.
func (w *Writer) Unescaped() io.Writer { return w.to }

// Write implements [io.Writer].
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.part) == 0 && plain(p) {
		return w.to.Write(p)
	}
	text := slices.Concat(w.part, p)
	whole := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if last := text[len(text)-i:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				whole -= i
			}
			break
		}
	}
	w.part = append([]byte(nil), text[whole:]...)
	if _, err := w.to.Write(appendLegible(nil, text[:whole])); err != nil {
		return 0, err
	}
	return len(p), nil
}

func plain[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

func appendLegible(out, text []byte) []byte {
	for len(text) > 0 {
		c, size := utf8.DecodeRune(text)
		switch {
		case c == '\n' || c == '\t' || !Hidden(c):
			out = append(out, text[:size]...)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, c)
		}
		text = text[size:]
	}
	return out
}
