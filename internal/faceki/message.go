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

// The message of an answer is kept for people: on one line, truncated, and without control
// characters, secrets and IDs.
const (
	maxRead    = 2000 // bytes of a text that are examined
	maxMessage = 200  // characters of a message
	maxTitle   = 80   // characters of a page title
	// minLeak is the number of consecutive characters of a secret that are treated as a leak.
	minLeak = 10
	hidden  = "[redacted]"
)

var (
	bearers = regexp.MustCompile(`(?i)\b(bearer|basic)\s+\S+`)
	urls    = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://[^\s"'<>]*`)
	// opaque matches what may be a token, a key or an ID, if it also has a digit.
	opaque = regexp.MustCompile(`[A-Za-z0-9+/=_.~%-]{16,}`)
	title  = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)
	login  = regexp.MustCompile(`(?is)<input[^>]+type\s*=\s*["']?password`)
	markup = regexp.MustCompile(`(?is)^(\xEF\xBB\xBF|\s|<\?xml[^>]*>|<!--.*?-->)*<(!doctype\s+html|html|head|body)\b`)
)

// redactor removes private data from the texts of one exchange.
type redactor struct {
	secrets []string // parts of them are removed, too
	words   []string
}

func (c *Client) redactor(r outgoing) redactor {
	return redactor{
		secrets: []string{string(c.cfg.ClientSecret), string(r.token)},
		words:   append([]string{c.cfg.ClientID}, r.private...),
	}
}

// message describes an answer without a link, or returns "". foreign reports that the
// answer is not from FaceKi's API.
func (a answer) message() (text string, foreign bool) {
	p := a.redactor
	if a.status/100 == 3 {
		return p.redirect(a.header.Get("Location")), true
	}
	if encoding := a.header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return "an answer with the Content-Encoding " + p.quoted(encoding, maxTitle) + ", which was not requested", false
	}
	if strings.HasPrefix(strings.ToLower(a.header.Get("Content-Type")), "text/html") || markup.Match(a.body) {
		return p.page(a.body), true
	}
	var object map[string]json.RawMessage
	err := json.Unmarshal(a.body, &object)
	for _, key := range []string{"message", "error_description", "error", "detail", "title"} {
		if text := p.quoted(words(object[key]), maxMessage); text != "" {
			return text, false
		}
	}
	if err == nil || a.status/100 == 2 || bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("{")) {
		return "", false // other data may be a link
	}
	return p.quoted(string(a.body), maxMessage), false
}

// words returns a string, or a list of strings joined.
func words(raw json.RawMessage) string {
	if s, ok := text(raw); ok {
		return s
	}
	var list []string
	_ = json.Unmarshal(raw, &list) // anything else is ignored
	return strings.Join(list, "; ")
}

func (p redactor) redirect(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Hostname() == "" {
		return "a redirect, which is not followed"
	}
	return "a redirect to the host " + p.line(u.Hostname(), maxMessage) + ", which is not followed"
}

func (p redactor) page(body []byte) string {
	what := "an HTML page"
	if login.Match(body) {
		what = "a login page"
	}
	if found := title.FindSubmatch(body); found != nil {
		if text := p.quoted(html.UnescapeString(string(found[1])), maxTitle); text != "" {
			what += " titled " + text
		}
	}
	return what + " instead of an answer of FaceKi's API"
}

func (p redactor) quoted(s string, limit int) string {
	if s = p.line(s, limit); s == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(s, `"`, "'") + `"`
}

// line returns s on one line, redacted and truncated to limit characters.
func (p redactor) line(s string, limit int) string {
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
		if limit -= utf8.RuneCountInString(shown); limit < 0 {
			return out.String() + "…"
		}
		out.WriteString(shown)
	}
	return out.String()
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// redacted hides private data. It finds all of it before it hides anything: otherwise, a
// short ID that occurs in a secret could split it into parts that are too short to be
// found.
func (p redactor) redacted(s string) string {
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
		for i := range max(0, len(s)-minLeak+1) {
			if strings.Contains(known, in[i:i+minLeak]) {
				mark(i, i+minLeak)
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

// without replaces each run of hidden bytes. A partly hidden character is hidden.
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

// lower converts ASCII letters, so that the length stays the same.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
