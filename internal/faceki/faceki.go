// Package faceki speaks FaceKi's API: it gets an access token, asks for one
// link, and says what the answer means. It makes one attempt and decides
// nothing: no retry, no waiting, no log.
//
// The table of answers is in verdict.go, the life of the token in token.go.
package faceki

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/record"
)

// The paths of FaceKi's API.
const (
	createPath      = "/kycverify/api/kycverify/kyc-verify-link"
	tokenPath       = "/auth/api/generate-token"
	legacyTokenPath = "/auth/api/access-token"
)

// Client makes links for one account. It is safe for concurrent use.
type Client struct {
	cfg    Config
	base   *url.URL
	now    func() time.Time
	calls  *http.Client
	auth   *http.Client
	tokens *tokens
	close  context.CancelFunc
}

// New makes a client from a valid configuration; it panics for a base URL that
// [Config.Validate] refuses. now is the clock by which tokens expire. Close the
// client when done.
func New(cfg Config, now func() time.Time) *Client {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		panic("faceki: New with a configuration that was not validated")
	}
	calls := newTransport()
	// Go's transport silently repeats a GET whose kept connection broke, and
	// every request for a token may be billed: each has its own connection.
	auth := calls.Clone()
	auth.DisableKeepAlives = true
	life, stop := context.WithCancel(context.Background())
	c := &Client{cfg: cfg, base: base, now: now, calls: refusingRedirects(calls), auth: refusingRedirects(auth), close: stop}
	c.tokens = &tokens{now: now, ask: func() (token, *fault.Fault) {
		ctx, cancel := context.WithTimeout(life, cfg.Timeout)
		defer cancel()
		return c.askToken(ctx)
	}}
	return c
}

// Close ends a request for a token that is under way and closes the idle
// connections. Calls of CreateLink are ended by their own context.
func (c *Client) Close() {
	c.close()
	c.calls.CloseIdleConnections()
	c.auth.CloseIdleConnections()
}

// Format keeps the secrets inside out of every print of the client.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("FaceKi client")) }

// Ready gets a token if none is at hand, so that [Client.CreateLink] sends its
// request without delay. It gives the fault that CreateLink would give, within
// the same time-out.
func (c *Client) Ready(ctx context.Context) *fault.Fault {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	_, f := c.tokens.get(ctx)
	return f
}

// linkRequest is the body of a create call. What is not given is left out:
// FaceKi does not document null.
type linkRequest struct {
	ExpiryTime       any    `json:"expiryTime,omitempty"` // minutes, a number or a string
	ApplicationID    string `json:"applicationId"`
	RedirectURL      string `json:"redirect_url,omitempty"`
	DocumentOptional *bool  `json:"document_optional,omitempty"`
	WorkflowID       string `json:"workflowId,omitempty"`
}

// CreateLink asks FaceKi once for the attempt's link, with the worker's defaults
// where the request gives nothing. FaceKi's complaint about a workflow is the
// request's fault where it names one of its own, else the account's.
//
// The call ends within the configured time-out, the wait for a token included.
// Exactly one request is sent for the link, or none. With a nil fault the link
// can be used; otherwise the fault says whether one may exist all the same. A
// cancelled ctx is [fault.Interrupted] before the request was sent and
// [fault.Lost] after it. A refused token is dropped and the fault has Renewed
// set where a newer one may help.
func (c *Client) CreateLink(ctx context.Context, attempt record.Attempt) (record.Made, *fault.Fault) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	token, f := c.tokens.get(ctx)
	if f != nil {
		return record.Made{}, f
	}
	a, f := c.do(ctx, c.calls, request{
		method: http.MethodPost,
		path:   createPath,
		token:  token,
		body:   c.linkRequest(attempt.ApplicationID, attempt.Content.With(attempt.Frozen)),
	})
	if f != nil {
		return record.Made{}, f
	}
	made, f, renew := c.cfg.created(a, attempt.Content.WorkflowID != "")
	if renew {
		f.Renewed = c.tokens.refused(token)
	}
	return made, f
}

func (c *Client) linkRequest(applicationID string, content record.Content) linkRequest {
	r := linkRequest{
		ApplicationID:    applicationID,
		RedirectURL:      content.RedirectURL,
		DocumentOptional: content.DocumentOptional,
		WorkflowID:       content.WorkflowID,
	}
	switch {
	case content.ExpiryMinutes == 0:
	case c.cfg.ExpiryType == ExpiryString:
		r.ExpiryTime = fmt.Sprint(content.ExpiryMinutes)
	default:
		r.ExpiryTime = content.ExpiryMinutes
	}
	return r
}
