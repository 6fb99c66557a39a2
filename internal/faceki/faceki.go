// Package faceki speaks FaceKi's API: it gets an access token, asks for one
// link, and says what the answer means. It makes one attempt and decides
// nothing: no retry, no waiting, no log.
//
// The table of answers is in verdict.go, the life of the token in token.go and
// how the fleet shares it in shared.go, that of the connections in spares.go.
package faceki

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
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
	spares *spares
	tokens *tokens
	links  seal
	place  place
	close  context.CancelFunc
}

// New makes a client from a valid configuration; it panics for a base URL that
// [Config.Validate] refuses. now is the clock by which tokens expire. store
// shares the token with other processes; where nil, it is this client's alone.
// Close the client when done.
func New(cfg Config, now func() time.Time, store Store) *Client {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		panic("faceki: New with a configuration that was not validated")
	}
	life, stop := context.WithCancel(context.Background())
	begin := func() (context.Context, context.CancelFunc) { return context.WithTimeout(life, cfg.Timeout) }
	c := &Client{cfg: cfg, base: base, now: now, close: stop}
	c.spares = newSpares(base, begin)
	c.place = c.spares.place(base)
	c.links = newSeal(cfg, "link")
	c.tokens = newTokens(store, now, cfg.Timeout)
	c.tokens.begin, c.tokens.ask = begin, c.askToken
	return c
}

// Close ends a request for a token that is under way, tells the store so, and
// closes the connections that are not in use. Calls of CreateLink are ended by
// their own context.
func (c *Client) Close() {
	c.close()
	c.tokens.settle()
	c.spares.shut()
}

// Format keeps the secrets inside out of every print of the client.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("FaceKi client")) }

// Ready sees to it that a token and a connection are at hand, so that a
// [Client.CreateLink] that follows within 3 s sends its request without delay.
// Where they are, it costs next to nothing, so that it can be asked again each
// time before a grant. It gives the fault that CreateLink would give, within
// the same time-out; but where a token was refused soon after it was made, it
// waits until the next one may be asked for, half a minute at most.
func (c *Client) Ready(ctx context.Context) *fault.Fault {
	if _, f := c.token(ctx, recheck); f != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.spares.ready(ctx); err != nil {
		return c.unanswered(ctx, err, false)
	}
	return nil
}

// token gives one, if need be as soon as it may be asked for.
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
			return "", gaveUp(ctx, &fault.Fault{Kind: fault.TokenUnavailable, RetryAfter: due,
				Detail: "the last one was refused; the next one is asked for in " + due.Round(time.Second).String()})
		}
	}
}

// Connect makes a new connection, through TLS, and sends no request: it tells
// whether FaceKi can be reached. A call that follows soon uses the connection.
func (c *Client) Connect(ctx context.Context) *fault.Fault {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	fresh, err := c.spares.connect(ctx)
	if err != nil {
		return c.unanswered(ctx, err, false)
	}
	c.spares.giveBack(fresh)
	return nil
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
// Exactly one request is sent for the link, or none, and none that would begin
// later than the attempt's SendBy: then the fault is [fault.Interrupted]. With a
// nil fault the link can be used; otherwise the fault says whether one may exist
// all the same. A cancelled ctx is [fault.Interrupted] before the request was
// sent and [fault.Lost] after it. A refused token is dropped and the fault has
// Renewed set where a newer one may help.
func (c *Client) CreateLink(ctx context.Context, attempt attempt.Attempt) (request.Link, *fault.Fault) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	before := ctx // the request is sent
	if !attempt.SendBy.IsZero() {
		before, cancel = context.WithDeadlineCause(ctx, attempt.SendBy, errTooLate)
		defer cancel()
	}
	token, f := c.token(before, maxLife)
	if f != nil {
		return request.Link{}, f
	}
	a, f := c.do(ctx, outgoing{
		connect: func(context.Context) (*conn, error) { return c.spares.take(before) },
		sendBy:  attempt.SendBy,
		method:  http.MethodPost,
		path:    createPath,
		token:   token,
		body:    c.linkRequest(attempt.ApplicationID, attempt.Content.With(attempt.Resolved)),
		private: []string{attempt.ApplicationID},
	})
	if f != nil {
		return request.Link{}, f
	}
	made, f, renew := c.cfg.created(a, attempt.Content.WorkflowID != "")
	if renew {
		f.Renewed = c.tokens.refused(ctx, token)
	} else if f == nil || f.Scope() == fault.ThisRequest {
		c.tokens.works(ctx, token)
	}
	if f != nil && made.LinkID != "" {
		f.Kept = c.keep(attempt, made)
		made = request.Link{}
	}
	return made, f
}

func (c *Client) linkRequest(applicationID string, content request.Content) linkRequest {
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
