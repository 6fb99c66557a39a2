package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/request"
)

// The limits of a request's fields.
const (
	MaxApplicationID = 128         // characters
	MaxURL           = 2048        // bytes
	MaxExpiryMinutes = 10 * 525600 // ten years
	MaxGeneration    = 999
	MaxMetadata      = 2 << 10 // bytes, as encoding/json writes them: compact, and <, > and & as \u003c …
)

// Lane is the priority class of a request.
type Lane string

// The lanes. Interactive requests have priority over bulk requests.
const (
	Interactive = Lane(request.Interactive)
	Bulk        = Lane(request.Bulk)
)

// Request asks for one person's KYC link. Only ApplicationID is required. It identifies
// the request: a repeat with the same ID never creates a second link. Zero values mean
// "not set".
type Request struct {
	// ApplicationID has 1 to 128 printable characters without spaces. Invisible
	// characters are refused. IDs are compared byte by byte.
	ApplicationID string `json:"application_id"`
	// RedirectURL is the https URL that the person is sent to afterwards.
	RedirectURL string `json:"redirect_url,omitempty"`
	// ExpiryMinutes is the lifetime of the link, at least 1. 0 means the worker's default.
	ExpiryMinutes int `json:"expiry_minutes,omitempty"`
	// DocumentOptional lets the person choose one of several documents.
	DocumentOptional *bool `json:"document_optional,omitempty"`
	// WorkflowID is a FaceKi workflow. Empty means the worker's default.
	WorkflowID string `json:"workflow_id,omitempty"`
	// Lane defaults to interactive, and to bulk in batches.
	Lane Lane `json:"lane,omitempty"`
	// CallbackURL is the https URL that receives the signed events. It must be allowed
	// by [Config].Callbacks.
	CallbackURL string `json:"callback_url,omitempty"`
	// NotAfter is the time at which the request fails if it has no link by then.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Generation N asks for a new link after generation N-1 has ended. 0 means the
	// latest generation, or the first.
	Generation int `json:"generation,omitempty"`
	// Metadata is a JSON object of at most 2 KiB that events repeat.
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// Validate checks every field. It returns an [*InvalidError] with all problems.
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
		check("application_id", "is "+strconv.Quote(id)+", which cannot be part of a URL path; use another")
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

const notAfterRange = "must be between the years 2000 and 9999"

func webURL(s string, schemes ...string) string {
	if s == "" {
		return ""
	}
	if len(s) > MaxURL {
		return fmt.Sprintf("is longer than %d bytes", MaxURL)
	}
	if isPlainURL(s) {
		return ""
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
		return "has no host"
	case u.User != nil:
		return "must not contain a user name or password"
	}
	return hostname.WrongPort(u)
}

// maxEscaped is the maximum number of bytes that encoding/json writes for one byte.
const maxEscaped = 6

func metadata(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	if !utf8.Valid(raw) {
		return "is not valid UTF-8"
	}
	if !isPlainObject(raw) && (!json.Valid(raw) || bytes.TrimLeft(raw, " \t\r\n")[0] != '{') {
		return "must be a JSON object"
	}
	if len(raw) <= MaxMetadata/maxEscaped {
		return ""
	}
	if stored, err := json.Marshal(raw); err != nil || len(stored) > MaxMetadata {
		return fmt.Sprintf("is longer than %d bytes", MaxMetadata)
	}
	return ""
}
