package config

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// flaw describes what an editor or a shell has added to a secret, or returns "". The server
// would only report wrong credentials.
func flaw(variable, value string) string {
	several := variable == "KYCLINK_CALLBACK_SECRET" // separated by blanks or line breaks
	if several {
		value = strings.TrimSpace(value)
	}
	first, _ := utf8.DecodeRuneInString(value)
	last, _ := utf8.DecodeLastRuneInString(value)
	switch {
	case strings.IndexByte(value, 0) >= 0:
		return "holds a NUL byte, as text in UTF-16 does; save it as UTF-8"
	case !utf8.ValidString(value):
		return "is not UTF-8; save it as UTF-8"
	case first == '\ufeff':
		return "begins with a byte order mark; save it as UTF-8 without BOM"
	case unicode.IsSpace(last):
		return "ends in a blank or a line break; remove it"
	case unicode.IsSpace(first):
		return "begins with a blank or a line break; remove it"
	case len(value) > 1 && first == last && strings.ContainsRune("\"'`", first), first == '“' || first == '‘':
		return "is in quotes; write it without them"
	case strings.ContainsAny(value, "\r\n") && !several:
		return "has several lines; write the value alone"
	}
	return ""
}

// isUTF16 reports whether a file begins with a byte order mark of UTF-16.
func isUTF16(content []byte) bool {
	return bytes.HasPrefix(content, []byte{0xff, 0xfe}) || bytes.HasPrefix(content, []byte{0xfe, 0xff})
}
