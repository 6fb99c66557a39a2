package bulk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	unicodes "golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// encodingOf finds an encoding by a name that browsers or IANA have for it; nil
// for UTF-8.
func encodingOf(name string) (encoding.Encoding, error) {
	e, err := htmlindex.Get(name)
	if err != nil {
		e, err = ianaindex.IANA.Encoding(name)
	}
	switch {
	case err != nil || e == nil || e == encoding.Replacement:
		return nil, fmt.Errorf("the encoding %q is not known; use a name such as utf-8, utf-16le, windows-1252, windows-1250, iso-8859-2, macintosh or shift_jis", name)
	case e == unicodes.UTF8:
		return nil, nil
	}
	return e, nil
}

// The starts of files that are not text, or say which text they are.
const (
	byteOrderMark = "\ufeff"
	markUTF16LE   = "\xff\xfe"
	markUTF16BE   = "\xfe\xff"
	magicZip      = "PK\x03\x04"
	magicOLE      = "\xd0\xcf\x11\xe0"
)

// unicodeText gives text as UTF-8, without its byte order mark. A mark wins over the
// encoding that was given: it is never there by chance.
func (in *Input) unicodeText(text *bufio.Reader) (*bufio.Reader, error) {
	start, err := text.Peek(len(magicZip))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, in.unusable("cannot be read", err)
	}
	decode := func(e encoding.Encoding) *bufio.Reader {
		in.decoded = true
		return bufio.NewReader(transform.NewReader(text, e.NewDecoder()))
	}
	has := func(mark string) bool {
		found := bytes.HasPrefix(start, []byte(mark))
		if found {
			in.mark = true
			_, _ = text.Discard(len(mark)) // it was peeked
		}
		return found
	}
	switch {
	case bytes.HasPrefix(start, []byte(magicZip)):
		do := "give a workbook the suffix .xlsx, or save it as CSV"
		if in.file == nil {
			do = "save it as CSV, and send that"
		}
		return nil, in.unusable("is an Excel workbook or another zip file, not text; "+do, nil)
	case bytes.HasPrefix(start, []byte(magicOLE)):
		return nil, in.unusable("is a workbook of an old Excel, or one with a password; save it as .xlsx without a password, or as CSV", nil)
	case has(byteOrderMark):
		in.encoding = "UTF-8"
	case has(markUTF16LE):
		in.encoding = "UTF-16"
		return decode(unicodes.UTF16(unicodes.LittleEndian, unicodes.IgnoreBOM)), nil
	case has(markUTF16BE):
		in.encoding = "UTF-16"
		return decode(unicodes.UTF16(unicodes.BigEndian, unicodes.IgnoreBOM)), nil
	case in.reading.Encoding != "":
		in.encoding = in.reading.Encoding
		e, err := encodingOf(in.reading.Encoding)
		if err != nil {
			return nil, in.unusable("cannot be read", err)
		}
		if e != nil {
			return decode(e), nil
		}
	}
	return text, nil
}

// garbled says whether text holds bytes that mean nothing in the file's encoding.
func (in *Input) garbled(text []byte) bool {
	return !utf8.Valid(text) || in.decoded && bytes.ContainsRune(text, utf8.RuneError)
}

// maxSample is how much text is looked at to tell an encoding.
const maxSample = 4 << 10

// garbledProblem says what is wrong with text that is garbled, and what may help.
func (in *Input) garbledProblem(text string) string {
	if in.decoded {
		return fmt.Sprintf("holds characters that are not valid in the encoding %s; check the encoding of the file", in.encoding)
	}
	if room := maxSample - len(in.sample); room > 0 {
		in.sample += text[:min(len(text), room)] + "\n"
	}
	likely := likelyEncoding(in.sample)
	how := "read it with --encoding " + likely
	if in.file == nil {
		how = "send it with charset=" + likely + " in its Content-Type"
	}
	return fmt.Sprintf("is not valid UTF-8; the file is probably %s: %s, or save it as UTF-8", likely, how)
}

// candidates are the encodings that are told from each other, the most frequent
// first.
var candidates = [...]struct {
	name string
	*charmap.Charmap
}{
	{"windows-1252", charmap.Windows1252},
	{"windows-1250", charmap.Windows1250},
	{"windows-1251", charmap.Windows1251},
	{"macintosh", charmap.Macintosh},
	{"ibm850", charmap.CodePage850},
}

// likelyEncoding guesses in which encoding text reads most like words: its letters
// are letters there, and small ones within words.
func likelyEncoding(text string) string {
	best, likely := 0, ""
	for _, c := range candidates {
		score := 0
		var before rune
		for i := range len(text) {
			r := c.DecodeByte(text[i])
			if text[i] >= utf8.RuneSelf {
				score += plausible(before, r)
			}
			before = r
		}
		if likely == "" || score > best {
			best, likely = score, c.name
		}
	}
	return likely
}

// plausible rates a character that is not ASCII after another.
func plausible(before, r rune) int {
	switch {
	case unicode.IsControl(r) || r == utf8.RuneError:
		return -10
	case !unicode.IsLetter(r):
		return -3
	case unicode.IsLetter(before) && unicode.Is(unicode.Latin, before) != unicode.Is(unicode.Latin, r):
		return -3 // two scripts in a word
	case unicode.IsUpper(r) && unicode.IsLower(before):
		return -2
	case !unicode.Is(unicode.Latin, r):
		// Any accented text reads as Cyrillic letter by letter; whole words do not.
		if unicode.IsLetter(before) {
			return 3
		}
		return 0
	}
	return 2
}
