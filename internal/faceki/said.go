package faceki

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What an answer says in its own words is kept for people: on one line, bounded,
// without control characters, and without anything that must not be shown.
const (
	maxRead  = 2000 // bytes of a text that are looked at
	maxSaid  = 200  // characters that are kept
	maxTitle = 80   // of them where it is a page's title
	// partOfSecret is how many characters in a row of a secret give it away.
	partOfSecret = 10
	hidden       = "[redacted]"
)

var (
	bearers = regexp.MustCompile(`(?i)\b(bearer|basic)\s+\S+`)
	urls    = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://[^\s"'<>]*`)
	// opaque is what may be a token, a key or an id: long, and with a digit.
	opaque = regexp.MustCompile(`[A-Za-z0-9+/=_.~%-]{16,}`)
	title  = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
	login  = regexp.MustCompile(`(?is)<input[^>]+type\s*=\s*["']?password`)
	markup = regexp.MustCompile(`(?is)^(\xEF\xBB\xBF|\s|<\?xml[^>]*>|<!--.*?-->)*<(!doctype\s+html|html|head|body)\b`)
)

// private is what must not be in what is kept of one exchange.
type private struct {
	secrets []string // nor may parts of them
	words   []string
}

func (c *Client) private(r outgoing) private {
	return private{
		secrets: []string{string(c.cfg.ClientSecret), string(r.token)},
		words:   append([]string{c.cfg.ClientID}, r.private...),
	}
}

// said describes an answer that brought no link, "" where it says nothing; foreign
// says that FaceKi's API does not answer so.
func (a answer) said() (said string, foreign bool) {
	p := a.private
	if a.status/100 == 3 {
		return p.redirect(a.header.Get("Location")), true
	}
	if packed := a.header.Get("Content-Encoding"); packed != "" && !strings.EqualFold(packed, "identity") {
		return "an answer with the Content-Encoding " + p.quoted(packed, maxTitle) + ", which was not asked for", false
	}
	if strings.HasPrefix(strings.ToLower(a.header.Get("Content-Type")), "text/html") || markup.Match(a.body) {
		return p.page(a.body), true
	}
	var object map[string]json.RawMessage
	err := json.Unmarshal(a.body, &object)
	for _, key := range []string{"message", "error_description", "error", "detail", "title"} {
		if said := p.quoted(words(object[key]), maxSaid); said != "" {
			return said, false
		}
	}
	if err == nil || a.status/100 == 2 || bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("{")) {
		return "", false // what is no message may be a link
	}
	return p.quoted(string(a.body), maxSaid), false
}

// words gives a text, or a list of texts.
func words(raw json.RawMessage) string {
	if s, ok := text(raw); ok {
		return s
	}
	var list []string
	_ = json.Unmarshal(raw, &list) // anything else says nothing
	return strings.Join(list, "; ")
}

func (p private) redirect(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Hostname() == "" {
		return "a redirect, which is not followed"
	}
	return "a redirect to the host " + p.line(u.Hostname(), maxSaid) + ", which is not followed"
}

func (p private) page(body []byte) string {
	what := "an HTML page"
	if login.Match(body) {
		what = "a login page"
	}
	if found := title.FindSubmatch(body); found != nil {
		if said := p.quoted(html.UnescapeString(string(found[1])), maxTitle); said != "" {
			what += " titled " + said
		}
	}
	return what + " instead of an answer of FaceKi's API"
}

func (p private) quoted(s string, most int) string {
	if s = p.line(s, most); s == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(s, `"`, "'") + `"`
}

// line gives s as it may be shown.
func (p private) line(s string, most int) string {
	if len(s) > maxRead {
		s = s[:maxRead]
	}
	s = strings.Join(strings.Fields(p.redacted(valid(s))), " ")
	var out strings.Builder
	for _, r := range s {
		shown := string(r)
		if !unicode.IsPrint(r) {
			shown = fmt.Sprintf("\\u%04x", r)
		}
		if most -= utf8.RuneCountInString(shown); most < 0 {
			return out.String() + "…"
		}
		out.WriteString(shown)
	}
	return out.String()
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// redacted looks for everything in the same text before it hides anything: a short id
// that occurs in a secret must not cut it into parts that are too short to be noticed.
func (p private) redacted(s string) string {
	s = bearers.ReplaceAllString(s, hidden)
	s = urls.ReplaceAllString(s, "[URL]")
	hide := make([]bool, len(s)) // by byte
	mark := func(from, to int) {
		for i := range hide[from:to] {
			hide[from+i] = true
		}
	}
	for _, word := range slices.Concat(p.words, p.secrets) {
		for _, form := range []string{word, url.QueryEscape(word)} {
			if word == "" {
				continue
			}
			for _, at := range regexp.MustCompile("(?i)"+regexp.QuoteMeta(valid(form))).FindAllStringIndex(s, -1) {
				mark(at[0], at[1])
			}
		}
	}
	for _, secret := range p.secrets {
		known, in := lower(valid(secret)), lower(s)
		for i := range max(0, len(s)-partOfSecret+1) {
			if strings.Contains(known, in[i:i+partOfSecret]) {
				mark(i, i+partOfSecret)
			}
		}
	}
	for _, at := range opaque.FindAllStringIndex(s, -1) {
		if strings.ContainsAny(s[at[0]:at[1]], "0123456789") {
			mark(at[0], at[1])
		}
	}
	return without(s, hide)
}

// without puts a mark in the place of each run of bytes that is hidden. Of a character
// that is hidden in part, nothing is left.
func without(s string, hide []bool) string {
	var out strings.Builder
	before := false
	for i, r := range s {
		now := slices.Contains(hide[i:i+utf8.RuneLen(r)], true)
		switch {
		case !now:
			out.WriteRune(r)
		case !before:
			out.WriteString(hidden)
		}
		before = now
	}
	return out.String()
}

// lower changes no lengths.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
