package faceki

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
)

const (
	// defaultLifetime is the lifetime of a token if the answer has none.
	defaultLifetime = time.Hour
	maxLifetime     = 30 * 24 * time.Hour
	// skew is how long before its expiry a token is replaced, so that it does not expire
	// in transit. Short-lived tokens use a tenth of their lifetime.
	skew     = 5 * time.Second
	maxToken = 16 << 10 // bytes
)

// tokenRequest is the body of a request for a token.
type tokenRequest struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

// requestToken requests a token from FaceKi once. The duration is how long it may be used,
// from the start of the call.
func (c *Client) requestToken(ctx context.Context) (Secret, time.Duration, *fault.Fault) {
	r := outgoing{
		connect: c.pool.connect,
		method:  http.MethodPost,
		path:    tokenPath,
		body:    tokenRequest{c.cfg.ClientID, string(c.cfg.ClientSecret)},
	}
	if c.cfg.Auth == AuthGet {
		r = outgoing{
			connect: c.pool.connect,
			method:  http.MethodGet,
			path:    legacyTokenPath,
			query:   url.Values{"clientId": {c.cfg.ClientID}, "clientSecret": {string(c.cfg.ClientSecret)}},
		}
	}
	a, f := c.do(ctx, r)
	if f == nil {
		var life time.Duration
		var value Secret
		if value, life, f = readTokenAnswer(a); f == nil {
			return value, life - min(skew, life/10), nil
		}
	}
	// The request did not ask for a link, so its outcome is never uncertain.
	if !neverSent(f) && f.Outcome() != fault.NoLink {
		f.Kind = fault.TokenUnavailable
	}
	if f.Kind != fault.TokenUnavailable { // whose message says so
		f.Detail = strings.TrimSuffix("access token: "+f.Detail, ": ")
	}
	return "", 0, f
}

// readTokenAnswer reads the answer to a request for a token. It uses the table of answers
// of create calls, but a fault of the request is a fault of the credentials here.
func readTokenAnswer(a answer) (Secret, time.Duration, *fault.Fault) {
	e := parseEnvelope(a.body)
	v := classify(a.status, e, false)
	if a.broken != 0 && a.status/100 == 2 {
		v = classification{a.broken, none, false}
	}
	if v.kind == 0 {
		if value, life, ok := readToken(e.data); ok && a.status/100 == 2 {
			return value, life, nil
		}
		v.kind = fault.Unreadable
	}
	f := v.fault(a)
	switch f.Scope() {
	case fault.Account, fault.Throttle:
	case fault.ThisRequest:
		f.Kind = fault.Unauthorized
	default:
		f.Kind = fault.TokenUnavailable
	}
	return "", 0, f
}

func readToken(data json.RawMessage) (Secret, time.Duration, bool) {
	var granted struct {
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(data, &granted) != nil || !isHeaderValue(granted.AccessToken) {
		return "", 0, false
	}
	life := defaultLifetime
	if seconds, ok := number(granted.ExpiresIn); ok && seconds > 0 {
		life = time.Duration(min(seconds, int(maxLifetime/time.Second))) * time.Second
	}
	return Secret(granted.AccessToken), life, true
}

// isHeaderValue reports whether a token can be sent in a header.
func isHeaderValue(s string) bool {
	return plain(s, maxToken) && !strings.ContainsFunc(s, func(r rune) bool { return r > '~' })
}
