package input

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

// lookUpEncoding finds an encoding by its WHATWG or IANA name. It returns nil for
// UTF-8.
func lookUpEncoding(name string) (encoding.Encoding, error) {
	e, err := htmlindex.Get(name)
	if err != nil {
		e, err = ianaindex.IANA.Encoding(name)
	}
	switch {
	case err != nil || e == nil || e == encoding.Replacement:
		return nil, fmt.Errorf("unknown encoding %q; use a name such as utf-8, utf-16le, windows-1252, windows-1250, iso-8859-2, macintosh or shift_jis", name)
	case e == unicodes.UTF8:
		return nil, nil
	}
	return e, nil
}

// ByteOrderMark begins a UTF-8 text that Excel is to read.
const ByteOrderMark = "\ufeff"

// The first bytes of files that are not text, or in another encoding.
const (
	markUTF16LE = "\xff\xfe"
	markUTF16BE = "\xfe\xff"
	magicZip    = "PK\x03\x04"
	magicOLE    = "\xd0\xcf\x11\xe0"
)

// decode returns text as UTF-8, without its byte order mark. A mark takes precedence
// over the encoding in the options: it is never there by chance.
func (in *File) decode(text *bufio.Reader) (*bufio.Reader, error) {
	start, err := text.Peek(len(magicZip))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, in.openError("not readable", err)
	}
	decoded := func(e encoding.Encoding) *bufio.Reader {
		in.decoded = true
		return bufio.NewReader(transform.NewReader(text, e.NewDecoder()))
	}
	skipMark := func(mark string) bool {
		found := bytes.HasPrefix(start, []byte(mark))
		if found {
			in.mark = true
			_, _ = text.Discard(len(mark)) // these bytes were peeked
		}
		return found
	}
	switch {
	case bytes.HasPrefix(start, []byte(magicZip)):
		do := "give a workbook the suffix .xlsx, or save it as CSV"
		if in.file == nil {
			do = "save it as CSV, and send that"
		}
		return nil, in.openError("an Excel workbook or another zip file, not text; "+do, nil)
	case bytes.HasPrefix(start, []byte(magicOLE)):
		return nil, in.openError("a workbook of an old Excel version, or one with a password; save it as .xlsx without a password, or as CSV", nil)
	case skipMark(ByteOrderMark):
		in.encoding = "UTF-8"
	case skipMark(markUTF16LE):
		in.encoding = "UTF-16"
		return decoded(unicodes.UTF16(unicodes.LittleEndian, unicodes.IgnoreBOM)), nil
	case skipMark(markUTF16BE):
		in.encoding = "UTF-16"
		return decoded(unicodes.UTF16(unicodes.BigEndian, unicodes.IgnoreBOM)), nil
	case in.options.Encoding != "":
		in.encoding = in.options.Encoding
		e, err := lookUpEncoding(in.options.Encoding)
		if err != nil {
			return nil, in.openError("not readable", err)
		}
		if e != nil {
			return decoded(e), nil
		}
	}
	return text, nil
}

// isGarbled reports whether text has bytes that are not valid in the file's encoding.
func (in *File) isGarbled(text []byte) bool {
	return !utf8.Valid(text) || in.decoded && bytes.ContainsRune(text, utf8.RuneError)
}

// maxSample is how much text is examined to guess an encoding, in bytes.
const maxSample = 4 << 10

// garbledProblem describes the problem of garbled text, and what may help.
func (in *File) garbledProblem(text string) string {
	if in.decoded {
		return fmt.Sprintf("has characters that are not valid in the encoding %s; check the encoding of the file", in.encoding)
	}
	if room := maxSample - len(in.sample); room > 0 {
		in.sample += text[:min(len(text), room)] + "\n"
	}
	likely := likelyEncoding(in.sample)
	return fmt.Sprintf("is not valid UTF-8; the file is probably %s: %s, or save it as UTF-8", likely, in.encodingAdvice(likely))
}

// encodingAdvice says how to give the encoding of the file.
func (in *File) encodingAdvice(name string) string {
	switch {
	case in.file == nil:
		return "send it with charset=" + name + " in its Content-Type"
	case in.options.Uploaded:
		return "choose the encoding " + name
	}
	return "read it with --encoding " + name
}

// candidates are the encodings that are guessed, the most frequent first.
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

// likelyEncoding guesses the encoding in which text reads most like words: its bytes
// are letters there, and lower-case letters within words.
func likelyEncoding(text string) string {
	best, likely := 0, ""
	for _, c := range candidates {
		score := 0
		var previous rune
		for i := range len(text) {
			r := c.DecodeByte(text[i])
			if text[i] >= utf8.RuneSelf {
				score += plausible(previous, r)
			}
			previous = r
		}
		if likely == "" || score > best {
			best, likely = score, c.name
		}
	}
	return likely
}

// plausible rates how well a character that is not ASCII follows another one.
func plausible(previous, r rune) int {
	switch {
	case unicode.IsControl(r) || r == utf8.RuneError:
		return -10
	case !unicode.IsLetter(r):
		return -3
	case unicode.IsLetter(previous) && unicode.Is(unicode.Latin, previous) != unicode.Is(unicode.Latin, r):
		return -3 // two scripts in one word
	case unicode.IsUpper(r) && unicode.IsLower(previous):
		return -2
	case !unicode.Is(unicode.Latin, r):
		// Any accented letter is a Cyrillic one elsewhere; whole words are not.
		if unicode.IsLetter(previous) {
			return 3
		}
		return 0
	}
	return 2
}
