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
	// documentedLife is a token's life where the answer gives none.
	documentedLife = time.Hour
	maxLife        = 30 * 24 * time.Hour
	// skew is how long before its end a token is given up, so that it does not
	// expire on the way; a tenth of a life shorter than that.
	skew     = 5 * time.Second
	maxToken = 16 << 10 // bytes
)

// tokenRequest is the body of a request for a token.
type tokenRequest struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

// askToken asks FaceKi for a token, once, and says how long it may be used from
// the moment of the call on.
func (c *Client) askToken(ctx context.Context) (Secret, time.Duration, *fault.Fault) {
	r := outgoing{
		connect: c.spares.connect,
		method:  http.MethodPost,
		path:    tokenPath,
		body:    tokenRequest{c.cfg.ClientID, string(c.cfg.ClientSecret)},
	}
	if c.cfg.Auth == AuthGet {
		r = outgoing{
			connect: c.spares.connect,
			method:  http.MethodGet,
			path:    legacyTokenPath,
			query:   url.Values{"clientId": {c.cfg.ClientID}, "clientSecret": {string(c.cfg.ClientSecret)}},
		}
	}
	a, f := c.do(ctx, r)
	if f == nil {
		var life time.Duration
		var value Secret
		if value, life, f = granted(a); f == nil {
			return value, life - min(skew, life/10), nil
		}
	}
	// Whatever became of it, no link was asked for.
	if !neverSent(f) && f.Outcome() != fault.NoLink {
		f.Kind = fault.TokenUnavailable
	}
	f.Detail = strings.TrimSuffix("access token: "+f.Detail, ": ")
	return "", 0, f
}

// granted reads the answer to a request for a token. The table of answers is
// that of a create call, but what is wrong with the request is wrong with the
// account's credentials here.
func granted(a answer) (Secret, time.Duration, *fault.Fault) {
	e := open(a.body)
	v := judge(a.status, e, false)
	if a.broken != 0 && a.status/100 == 2 {
		v = verdict{a.broken, none, false}
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
	if json.Unmarshal(data, &granted) != nil || !headerValue(granted.AccessToken) {
		return "", 0, false
	}
	life := documentedLife
	if seconds, ok := number(granted.ExpiresIn); ok && seconds > 0 {
		life = time.Duration(min(seconds, int(maxLife/time.Second))) * time.Second
	}
	return Secret(granted.AccessToken), life, true
}

// headerValue says whether a token can be sent as it is.
func headerValue(s string) bool {
	return plain(s, maxToken) && !strings.ContainsFunc(s, func(r rune) bool { return r > '~' })
}
