package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/request"
)

// Limits of a request's fields.
const (
	MaxApplicationID = 128         // characters
	MaxURL           = 2048        // bytes
	MaxExpiryMinutes = 10 * 525600 // ten years
	MaxGeneration    = 999
	MaxMetadata      = 2 << 10 // bytes as encoding/json writes them: compact, and <, > and & as \u003c …
)

// Lane is the way a request takes.
type Lane string

// The lanes. Interactive requests go before bulk ones.
const (
	Interactive = Lane(request.Interactive)
	Bulk        = Lane(request.Bulk)
)

// Request asks for one person's KYC link. Only ApplicationID is required, and
// it is the identity: asking again with the same id never makes a second link.
// Zero values mean "not given".
type Request struct {
	// ApplicationID is 1 to 128 printable characters without blanks. Invisible
	// ones are refused; two ids are the same where their bytes are.
	ApplicationID string `json:"application_id"`
	// RedirectURL is where the person goes afterwards; https.
	RedirectURL string `json:"redirect_url,omitempty"`
	// ExpiryMinutes is the link's life, from 1; the worker's default where 0.
	ExpiryMinutes int `json:"expiry_minutes,omitempty"`
	// DocumentOptional lets the person choose one document of several.
	DocumentOptional *bool `json:"document_optional,omitempty"`
	// WorkflowID names a FaceKi workflow; the worker's default where empty.
	WorkflowID string `json:"workflow_id,omitempty"`
	// Lane is interactive by default; in files and batches it is bulk.
	Lane Lane `json:"lane,omitempty"`
	// CallbackURL gets the signed events, as [Config].Callbacks lets it; https.
	CallbackURL string `json:"callback_url,omitempty"`
	// NotAfter is when the request ends as failed if it has no link by then.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Generation N asks for a new link after generation N-1 has ended; 0 means
	// the latest, or the first.
	Generation int `json:"generation,omitempty"`
	// Metadata is a JSON object of at most 2 KiB that events carry along.
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// Validate checks every field and gives all problems at once, as an
// [*InvalidError].
func (r Request) Validate() error { return invalid(r.problems()) }

func (r Request) problems() []Problem {
	var found []Problem
	check := func(key, problem string) {
		if problem != "" {
			found = append(found, Problem{key, problem})
		}
	}
	switch id := r.ApplicationID; id {
	case "":
		check("application_id", "is required")
	case ".", "..":
		check("application_id", "is "+strconv.Quote(id)+", which the path of a URL cannot hold; use another")
	default:
		check("application_id", printable(id))
	}
	check("redirect_url", webURL(r.RedirectURL, "https"))
	if r.ExpiryMinutes < 0 || r.ExpiryMinutes > MaxExpiryMinutes {
		check("expiry_minutes", fmt.Sprintf("must be from 1 to %d", MaxExpiryMinutes))
	}
	check("workflow_id", printable(r.WorkflowID))
	if r.Lane != "" && r.Lane != Interactive && r.Lane != Bulk {
		check("lane", "must be interactive or bulk")
	}
	check("callback_url", webURL(r.CallbackURL, "https", "http")) // whether http is allowed depends on the address
	if y := r.NotAfter.UTC().Year(); !r.NotAfter.IsZero() && (y < 2000 || y > 9999) {
		check("not_after", notAfterRange)
	}
	if r.Generation < 0 || r.Generation > MaxGeneration {
		check("generation", fmt.Sprintf("must be from 1 to %d", MaxGeneration))
	}
	check("metadata", metadata(r.Metadata))
	return found
}

const notAfterRange = "must lie between the years 2000 and 9999"

func printable(s string) string {
	if utf8.RuneCountInString(s) > MaxApplicationID {
		return fmt.Sprintf("is longer than %d characters", MaxApplicationID)
	}
	return visible(s)
}

// visible refuses what nobody can see or tell apart, and U+FFFD, which stands
// where a character was lost: two ids could become one by it.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "" // ASCII, as nearly all are
	}
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for _, c := range s {
		if unicode.IsSpace(c) || !unicode.IsPrint(c) || c == utf8.RuneError ||
			unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return "holds " + character(c) + "; only printable characters without blanks may be used"
		}
	}
	return ""
}

func webURL(s string, schemes ...string) string {
	if s == "" {
		return ""
	}
	if len(s) > MaxURL {
		return fmt.Sprintf("is longer than %d bytes", MaxURL)
	}
	if problem := visible(s); problem != "" {
		return problem
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "is not a URL"
	case !slices.Contains(schemes, u.Scheme):
		return "must start with https://"
	case u.Hostname() == "":
		return "names no host"
	case u.User != nil:
		return "must not hold a user name or password"
	}
	return hostname.WrongPort(u)
}

// escaped is how many bytes encoding/json makes of one at most.
const escaped = 6

func metadata(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	if !utf8.Valid(raw) {
		return "is not valid UTF-8"
	}
	if !json.Valid(raw) || bytes.TrimLeft(raw, " \t\r\n")[0] != '{' {
		return "must be a JSON object"
	}
	if len(raw) <= MaxMetadata/escaped {
		return ""
	}
	if stored, err := json.Marshal(raw); err != nil || len(stored) > MaxMetadata {
		return fmt.Sprintf("is longer than %d bytes", MaxMetadata)
	}
	return ""
}

// content is what of the request is stored, and compared with a repeat.
func (r Request) content() request.Content {
	return request.Content{
		RedirectURL: r.RedirectURL, ExpiryMinutes: r.ExpiryMinutes, DocumentOptional: r.DocumentOptional,
		WorkflowID: r.WorkflowID, CallbackURL: r.CallbackURL, NotAfter: r.NotAfter, Metadata: r.Metadata,
	}
}

// differences names the keys that the repeat gives and that were given
// otherwise, or not at all, the first time.
func differences(first, repeat request.Content) []string {
	var keys []string
	differ := func(key string, given, equal bool) {
		if given && !equal {
			keys = append(keys, key)
		}
	}
	differ("redirect_url", repeat.RedirectURL != "", repeat.RedirectURL == first.RedirectURL)
	differ("expiry_minutes", repeat.ExpiryMinutes != 0, repeat.ExpiryMinutes == first.ExpiryMinutes)
	differ("document_optional", repeat.DocumentOptional != nil, reflect.DeepEqual(repeat.DocumentOptional, first.DocumentOptional))
	differ("workflow_id", repeat.WorkflowID != "", repeat.WorkflowID == first.WorkflowID)
	differ("callback_url", repeat.CallbackURL != "", repeat.CallbackURL == first.CallbackURL)
	differ("not_after", !repeat.NotAfter.IsZero(), repeat.NotAfter.Equal(first.NotAfter))
	differ("metadata", len(repeat.Metadata) > 0, sameJSON(repeat.Metadata, first.Metadata))
	return keys
}

func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	read := func(raw json.RawMessage) (v any) {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if dec.Decode(&v) != nil {
			return nil
		}
		return v
	}
	x, y := read(a), read(b)
	return x != nil && reflect.DeepEqual(x, y)
}
