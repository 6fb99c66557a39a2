package faceki

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/kyclink/kyclink/internal/fault"
)

const (
	// documentedLife is a token's life where the answer gives none.
	documentedLife = time.Hour
	maxLife        = 30 * 24 * time.Hour
	// skew is how long before its end a token is given up, so that it does not
	// expire on the way; a tenth of a life shorter than that.
	skew = 5 * time.Second
	// spacing is between two requests for a token. FaceKi bills them, so neither
	// a refused token nor refused credentials may make a storm of them.
	spacing  = 30 * time.Second
	maxToken = 16 << 10 // bytes
)

type token struct {
	value Secret
	until time.Time // given up then
}

// tokens keeps the account's token in this process. It is asked for again only
// when it has expired or was refused. A request for it that FaceKi got and did
// not grant is repeated after spacing; until then its fault stands.
type tokens struct {
	now func() time.Time
	ask func() (token, *fault.Fault) // one request
	one singleflight.Group

	mu      sync.Mutex
	current token
	askedAt time.Time
	failed  *fault.Fault // of the last request, until retryAt
	retryAt time.Time
}

// get gives a token that has not expired. However many callers wait, one
// request is made; it goes on when they give up.
func (t *tokens) get(ctx context.Context) (Secret, *fault.Fault) {
	if value, f := t.held(); value != "" || f != nil {
		return value, f
	}
	select {
	case r := <-t.one.DoChan("", func() (any, error) {
		// Another flight may have landed since the look above.
		if value, f := t.held(); value != "" || f != nil {
			return value, asError(f)
		}
		return t.renew()
	}):
		value, _ := r.Val.(Secret)
		var f *fault.Fault
		if errors.As(r.Err, &f) {
			return "", repeated(f, f.RetryAfter)
		}
		return value, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", &fault.Fault{Kind: fault.TokenUnavailable, Detail: "no answer in time"}
		}
		return "", &fault.Fault{Kind: fault.Interrupted}
	}
}

// held gives what is known without a request: a token, or a fault that stands.
func (t *tokens) held() (Secret, *fault.Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.current.value != "" && now.Before(t.current.until) {
		return t.current.value, nil
	}
	if t.failed != nil && now.Before(t.retryAt) {
		return "", repeated(t.failed, max(0, t.failed.RetryAfter-now.Sub(t.askedAt)))
	}
	return "", nil
}

func (t *tokens) renew() (Secret, error) {
	askedAt := t.now()
	got, f := t.ask()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.failed = got, nil
	if f != nil && !neverSent(f) {
		t.failed, t.retryAt = f, askedAt.Add(max(spacing, f.RetryAfter))
	}
	t.askedAt = askedAt
	return got.value, asError(f)
}

// refused says that FaceKi refused the token, and drops it unless it has been
// dropped or replaced already. It says whether a newer one may help: a token
// that is refused right after it was made is not the one at fault. That one is
// kept, so that the account's recovery is noticed without asking for another.
func (t *tokens) refused(value Secret) (renewable bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.value != value {
		return true
	}
	if t.now().Before(t.askedAt.Add(spacing)) {
		return false
	}
	t.current = token{}
	return true
}

// neverSent says that the request cost nothing and may be repeated at once.
func neverSent(f *fault.Fault) bool {
	return f.Kind == fault.NotSent || f.Kind == fault.ConnectTimeout || f.Kind == fault.Interrupted
}

// repeated gives a fault to one more caller, who may change it.
func repeated(f *fault.Fault, retryAfter time.Duration) *fault.Fault {
	again := *f
	again.RetryAfter = retryAfter
	return &again
}

// asError keeps a nil fault a nil error.
func asError(f *fault.Fault) error {
	if f == nil {
		return nil
	}
	return f
}

// tokenRequest is the body of a request for a token.
type tokenRequest struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

// askToken asks FaceKi for a token, once.
func (c *Client) askToken(ctx context.Context) (token, *fault.Fault) {
	r := request{
		method: http.MethodPost,
		path:   tokenPath,
		body:   tokenRequest{c.cfg.ClientID, string(c.cfg.ClientSecret)},
	}
	if c.cfg.Auth == AuthGet {
		r = request{
			method: http.MethodGet,
			path:   legacyTokenPath,
			query:  url.Values{"clientId": {c.cfg.ClientID}, "clientSecret": {string(c.cfg.ClientSecret)}},
		}
	}
	askedAt := c.now()
	a, f := c.do(ctx, c.auth, r)
	if f == nil {
		var life time.Duration
		var value Secret
		if value, life, f = granted(a); f == nil {
			return token{value, askedAt.Add(life - min(skew, life/10))}, nil
		}
	}
	// Whatever became of it, no link was asked for.
	if !neverSent(f) && f.Outcome() != fault.NoLink {
		f.Kind = fault.TokenUnavailable
	}
	f.Detail = strings.TrimSuffix("access token: "+f.Detail, ": ")
	return token{}, f
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
	switch f.Party() {
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
