// Package faceki is a client of FaceKi's API: it obtains an access token, requests a
// link, and classifies the answer. It makes one attempt. It does not retry or log.
//
// wire.go sends every request, classify.go has the table of answers, token.go obtains the
// token, redis_store.go shares it with other processes, and pool.go holds the connections.
package faceki

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// The paths of FaceKi's API.
const (
	createPath      = "/kycverify/api/kycverify/kyc-verify-link"
	tokenPath       = "/auth/api/generate-token"
	legacyTokenPath = "/auth/api/access-token"
)

// Client creates links for one account. It is safe for concurrent use.
type Client struct {
	cfg    Config
	base   *url.URL
	now    func() time.Time
	pool   *pool
	tokens *tokens
	links  seal
	target target
	close  context.CancelFunc
}

// New returns a client. The configuration must be valid: New panics for a base URL that
// [Config.Validate] refuses. now is the clock for the expiry of tokens. store shares the
// token with other processes; if it is nil, the token is not shared. Close the client
// when done.
func New(cfg Config, now func() time.Time, store Store) *Client {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		panic("faceki: New with a configuration that was not validated")
	}
	life, stop := context.WithCancel(context.Background())
	newContext := func() (context.Context, context.CancelFunc) { return context.WithTimeout(life, cfg.Timeout) }
	c := &Client{cfg: cfg, base: base, now: now, close: stop}
	c.pool = newPool(base, newContext)
	c.target = c.pool.target(base)
	c.links = newSeal(cfg, "link")
	c.tokens = newTokens(store, now, cfg.Timeout)
	c.tokens.newContext, c.tokens.requestToken = newContext, c.requestToken
	return c
}

// Close aborts a request for a token, releases its lease, and closes idle connections.
// It does not end calls of CreateLink, which have their own contexts.
func (c *Client) Close() {
	c.close()
	c.tokens.waitForRefresh()
	c.pool.closeAll()
}

// Format hides the secrets from every print of the client.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("FaceKi client")) }

// Ready obtains a token and a connection, so that a [Client.CreateLink] within the next
// 3 s sends its request without delay. It is cheap if both exist, so call it before every
// grant. It returns the fault that CreateLink would return, within the same timeout. If a
// token was refused soon after it was requested, Ready waits until the next one may be
// requested, at most half a minute.
func (c *Client) Ready(ctx context.Context) *fault.Fault {
	if _, f := c.token(ctx, recheck); f != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.pool.ready(ctx); err != nil {
		return c.connectionFault(ctx, err, false)
	}
	return nil
}

// token returns an access token. If necessary, it waits until one may be requested.
func (c *Client) token(ctx context.Context, within time.Duration) (Secret, *fault.Fault) {
	for {
		once, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		value, due, f := c.tokens.get(once, within)
		if cancel(); due == 0 {
			return value, f
		}
		select {
		case <-time.After(min(due, recheck)):
		case <-ctx.Done():
			return "", waitFault(ctx, &fault.Fault{Kind: fault.TokenUnavailable, RetryAfter: due,
				Detail: "the last one was refused; the next one is requested in " + due.Round(time.Second).String()})
		}
	}
}

// Connect makes a new connection, including TLS, and sends no request. It tests whether
// FaceKi can be reached. A call that follows soon uses the connection.
func (c *Client) Connect(ctx context.Context) *fault.Fault {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	fresh, err := c.pool.connect(ctx)
	if err != nil {
		return c.connectionFault(ctx, err, false)
	}
	c.pool.put(fresh)
	return nil
}

// linkRequest is the body of a create call. Unset values are omitted, because FaceKi does
// not document null.
type linkRequest struct {
	ExpiryTime       any    `json:"expiryTime,omitempty"` // minutes, a number or a string
	ApplicationID    string `json:"applicationId"`
	RedirectURL      string `json:"redirect_url,omitempty"`
	DocumentOptional *bool  `json:"document_optional,omitempty"`
	WorkflowID       string `json:"workflowId,omitempty"`
}

// Call is a call that creates a link. Zero settings are left to FaceKi.
type Call struct {
	ApplicationID    string
	Generation       int
	RedirectURL      string
	ExpiryMinutes    int
	DocumentOptional *bool
	WorkflowID       string
	// OwnWorkflow says that the request itself names the workflow. An error about the
	// workflow is a fault of the request then, and of the account otherwise.
	OwnWorkflow bool
	// AdmittedAt is when the call was admitted, and becomes RequestedAt of a kept link.
	AdmittedAt time.Time
	// SendBy is the time after which the call is not sent; zero for no limit.
	SendBy time.Time
}

// CreateLink asks FaceKi once for a link.
//
// The call ends within the configured timeout, which includes the wait for a token. It
// sends one request for the link, or none. It sends none after call.SendBy; the fault is
// [fault.Interrupted] then. If the fault is nil, the link can be used.
// Otherwise, the fault says whether a link may exist. A cancelled ctx gives
// [fault.Interrupted] before the request was sent, and [fault.Lost] afterwards. A refused
// token is discarded; the fault has Renewed set if a new token may help.
func (c *Client) CreateLink(ctx context.Context, call Call) (request.Link, *fault.Fault) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	beforeSend := ctx
	if !call.SendBy.IsZero() {
		beforeSend, cancel = context.WithDeadlineCause(ctx, call.SendBy, errTooLate)
		defer cancel()
	}
	token, f := c.token(beforeSend, maxLifetime)
	if f != nil {
		return request.Link{}, f
	}
	a, f := c.do(ctx, outgoing{
		connect: func(context.Context) (*conn, error) { return c.pool.take(beforeSend) },
		sendBy:  call.SendBy,
		method:  http.MethodPost,
		path:    createPath,
		token:   token,
		body:    c.linkRequest(call),
		private: []string{call.ApplicationID},
	})
	if f != nil {
		return request.Link{}, f
	}
	made, f, renew := c.cfg.created(a, call.OwnWorkflow)
	if renew {
		f.Renewed = c.tokens.refused(ctx, token)
	} else if f == nil || f.Scope() == fault.ThisRequest {
		c.tokens.markAccepted(ctx, token)
	}
	if f != nil && made.LinkID != "" {
		f.Kept = c.keep(call, made)
		made = request.Link{}
	}
	return made, f
}

func (c *Client) linkRequest(call Call) linkRequest {
	r := linkRequest{
		ApplicationID:    call.ApplicationID,
		RedirectURL:      call.RedirectURL,
		DocumentOptional: call.DocumentOptional,
		WorkflowID:       call.WorkflowID,
	}
	switch {
	case call.ExpiryMinutes == 0:
	case c.cfg.ExpiryType == ExpiryString:
		r.ExpiryTime = fmt.Sprint(call.ExpiryMinutes)
	default:
		r.ExpiryTime = call.ExpiryMinutes
	}
	return r
}
