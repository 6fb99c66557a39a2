package faceki

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/retryafter"
)

// maxBody is how much of an answer is read, in bytes; a longer one is unreadable.
const maxBody = 64 << 10

// byteOrderMark is what some servers put before JSON.
const byteOrderMark = "\ufeff"

// newTransport makes the connections, each for one request at a time: none is
// repeated or redirected, which would carry the token away. HTTP/2 is left out
// on purpose: one broken connection would put every call that shares it in doubt.
func newTransport() *http.Transport {
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: refusedByProxy,
		Protocols:              &http1,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// outgoing is one request to FaceKi; the zero value of a field leaves it out.
type outgoing struct {
	// connect gives the connection, which do gives back.
	connect func(context.Context) (*conn, error)
	sendBy  time.Time
	method  string
	path    string
	query   url.Values
	body    any
	token   Secret
	private []string // what of it must not be in a fault, beside the credentials
}

// do builds and sends every request of this package, once. The fault is nil
// where a status came back.
func (c *Client) do(ctx context.Context, r outgoing) (answer, *fault.Fault) {
	sending := &sending{by: r.sendBy, now: c.spares.now}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { sending.begun.Store(true) },
	})
	req, err := c.build(ctx, r)
	if err != nil {
		return answer{}, &fault.Fault{Kind: fault.BadRequest, Detail: "the request cannot be written as HTTP"}
	}
	conn, err := r.connect(ctx)
	if err != nil {
		return answer{}, c.unanswered(ctx, err, false)
	}
	defer c.spares.giveBack(conn)
	conn.raw.sending.Store(sending)
	resp, err := conn.http.RoundTrip(req)
	if err != nil {
		if sending.refused.Load() {
			err = errTooLate
		}
		return answer{}, c.unanswered(ctx, err, sending.sent.Load())
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header, private: c.private(r), retryAfter: retryafter.Parse(resp.Header.Get("Retry-After"), c.now(), maxRetryAfter)}
	if a.status == http.StatusSwitchingProtocols {
		return a, nil // there is no body, and reading on would obey no deadline
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	a.body = bytes.TrimPrefix(a.body, []byte(byteOrderMark))
	switch {
	case err != nil && timedOut(ctx, err):
		a.broken = fault.TimedOut
	case err != nil && ctx.Err() != nil:
		a.broken = fault.Lost
	case err != nil || len(a.body) > maxBody:
		a.broken = fault.Unreadable
	}
	return a, nil
}

func (c *Client) build(ctx context.Context, r outgoing) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		var buffer bytes.Buffer
		enc := json.NewEncoder(&buffer)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(r.body); err != nil {
			return nil, err
		}
		body = bytes.NewReader(bytes.TrimSuffix(buffer.Bytes(), []byte("\n")))
	}
	u := c.base.JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Close = r.token == "" // a request for a token is seldom, and has its own connection
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity") // without it any encoding may be answered
	req.Header.Set("User-Agent", "kyclink")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+string(r.token))
	}
	return req, nil
}

// unanswered is the fault of a request that no status came back for. The
// error's text is dropped: it may hold the URL, and with it the secret.
func (c *Client) unanswered(ctx context.Context, err error, sent bool) *fault.Fault {
	f := &fault.Fault{Detail: c.place.cause(err)}
	switch {
	case errors.Is(err, errTooLate):
		f = &fault.Fault{Kind: fault.Interrupted, Detail: "too late after its grant"}
	case timedOut(ctx, err) && sent:
		f.Kind = fault.TimedOut
	case timedOut(ctx, err):
		f.Kind = fault.ConnectTimeout
	case sent:
		f.Kind = fault.Lost
	case ctx.Err() != nil || errors.Is(err, context.Canceled):
		f.Kind = fault.Interrupted
	default:
		f.Kind = fault.NotSent
	}
	return f
}

func timedOut(ctx context.Context, err error) bool {
	var network net.Error
	return errors.Is(ctx.Err(), context.DeadlineExceeded) ||
		ctx.Err() == nil && errors.As(err, &network) && network.Timeout()
}
