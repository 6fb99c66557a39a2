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

// maxBody is the maximum size of an answer in bytes; a longer one is unreadable.
const maxBody = 64 << 10

// byteOrderMark precedes the JSON of some servers.
const byteOrderMark = "\ufeff"

// newTransport returns a transport for connections with one request at a time. It does not
// retry requests, and does not follow redirects, which could leak the token. HTTP/2 is off
// deliberately: one broken connection would make the outcome of all its calls uncertain.
func newTransport() *http.Transport {
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: checkProxyResponse,
		Protocols:              &http1,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// outgoing is one request to FaceKi. Fields with zero values are omitted.
type outgoing struct {
	// connect returns the connection. Afterwards, do puts it into the pool.
	connect func(context.Context) (*conn, error)
	sendBy  time.Time
	method  string
	path    string
	query   url.Values
	body    any
	token   Secret
	private []string // texts that must not be in a fault, besides the credentials
}

// do builds and sends every request of this package, once. The fault is nil if a response
// with a status arrived.
func (c *Client) do(ctx context.Context, r outgoing) (answer, *fault.Fault) {
	sending := &sending{by: r.sendBy, now: c.pool.now}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { sending.begun.Store(true) },
	})
	req, err := c.build(ctx, r)
	if err != nil {
		return answer{}, &fault.Fault{Kind: fault.BadRequest, Detail: "the request cannot be encoded as HTTP"}
	}
	conn, err := r.connect(ctx)
	if err != nil {
		return answer{}, c.connectionFault(ctx, err, false)
	}
	defer c.pool.put(conn)
	conn.raw.sending.Store(sending)
	resp, err := conn.http.RoundTrip(req)
	if err != nil {
		if sending.tooLate.Load() {
			err = errTooLate
		}
		return answer{}, c.connectionFault(ctx, err, sending.sent.Load())
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header, redactor: c.redactor(r), retryAfter: retryafter.Parse(resp.Header.Get("Retry-After"), c.now(), maxRetryAfter)}
	if a.status == http.StatusSwitchingProtocols {
		return a, nil // it has no body, and reading would ignore deadlines
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
	req.Close = r.token == "" // requests for a token are rare and use their own connections
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity") // otherwise, any encoding would be allowed
	req.Header.Set("User-Agent", "kyclink")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+string(r.token))
	}
	return req, nil
}

// connectionFault returns the fault of a request without a response. It omits the text of
// the error, which may contain the URL and with it the secret.
func (c *Client) connectionFault(ctx context.Context, err error, sent bool) *fault.Fault {
	f := &fault.Fault{Detail: c.target.describe(err)}
	switch {
	case errors.Is(err, errTooLate):
		f = &fault.Fault{Kind: fault.Interrupted, Detail: "not sent in time after the grant"}
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
