// Package callback sends signed callbacks (Standard Webhooks) to public addresses, and to
// private ones that are allowed explicitly. It makes one attempt; the caller decides when
// to make another.
package callback

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/retryafter"
	"github.com/kyclink/kyclink/tasks"
)

const (
	// Timeout is the default time that a receiver has to answer.
	Timeout = 15 * time.Second

	mostRead = 4 << 10 // bytes of an answer's body; the connection of a longer one is closed
	// mostWait is the longest Retry-After that is obeyed; it is also the longest pause.
	mostWait = 12 * time.Hour
)

// Sender sends callbacks. It is safe for concurrent use.
type Sender struct {
	hooks         tasks.Callbacks
	secret        Secret
	signers       signers
	guard         guard
	proxied       bool
	timeout       time.Duration
	secure, plain *http.Client
	now           func() time.Time
}

// New returns a sender for a valid configuration.
func New(cfg Config) (*Sender, error) { return newSender(cfg, net.DefaultResolver) }

func newSender(cfg Config, resolver *net.Resolver) (*Sender, error) {
	s := &Sender{hooks: cfg.Callbacks(), secret: cfg.Secret, timeout: cfg.Timeout, now: time.Now}
	if s.timeout == 0 {
		s.timeout = Timeout
	}
	var err error
	if s.signers, err = newSigners(cfg.Secret); err != nil {
		return nil, err
	}
	var proxy *url.URL
	if cfg.Proxy != "" {
		if proxy, err = url.Parse(string(cfg.Proxy)); err != nil {
			return nil, errors.New("callback proxy: not a URL") // the error contains the text
		}
		s.proxied = true
	}
	s.guard = newGuard(s.hooks.AllowCIDRs)
	client := func(plain bool) *http.Client {
		return &http.Client{
			Transport:     newTransport(s.guard, resolver, proxy, plain),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	s.secure, s.plain = client(false), client(true)
	return s, nil
}

// Close closes idle connections.
func (s *Sender) Close() {
	s.secure.CloseIdleConnections()
	s.plain.CloseIdleConnections()
}

// Timeout returns the longest that an attempt takes.
func (s *Sender) Timeout() time.Duration { return s.timeout }

// Post makes one attempt to deliver, within [Sender.Timeout].
func (s *Sender) Post(ctx context.Context, d delivery.Delivery) delivery.Reply {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	reply := s.post(ctx, d)
	reply.At = s.now().UTC()
	return reply
}

func (s *Sender) post(ctx context.Context, d delivery.Delivery) delivery.Reply {
	u, err := url.Parse(d.URL)
	if err != nil {
		return refusal("its URL cannot be read")
	}
	// The URL was checked when the request was accepted, with the settings of that process.
	if problem := s.hooks.Problem(d.URL); problem != "" {
		return refusal("callback_url " + problem)
	}
	if err := canonical(u); err != nil {
		return refusal("its URL names a host that " + err.Error())
	}
	if s.proxied {
		if err := s.guard.literal(u); err != nil {
			return refusal("the destination is not allowed: " + err.Error())
		}
	}
	req, err := s.request(ctx, u, d)
	if err != nil {
		return refusal("the callback could not be made")
	}
	client := s.secure
	if u.Scheme == "http" {
		client = s.plain
	}
	answer, err := client.Do(req)
	if err != nil {
		return s.failure(ctx, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, mostRead)) // an error truncates it
	reply := replyTo(answer.StatusCode, s.proxied && u.Scheme == "http")
	reply.RetryAfter = retryafter.Parse(answer.Header.Get("Retry-After"), s.now(), mostWait)
	reply.Body = s.redact(body, d, req.Header.Get("Webhook-Signature"))
	return reply
}

// canonical replaces the host of a URL by its one canonical spelling, so that the host that
// was checked is the one that is connected to, or that a proxy is asked for.
func canonical(u *url.URL) error {
	host, err := hostname.Canonical(u.Hostname())
	if err != nil {
		return err
	}
	port := u.Port()
	switch {
	case port != "":
		u.Host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		u.Host = "[" + host + "]"
	default:
		u.Host = host
	}
	return nil
}

func (s *Sender) request(ctx context.Context, u *url.URL, d delivery.Delivery) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(d.Body))
	if err != nil {
		return nil, err
	}
	req.URL.Host, req.Host = u.Host, u.Host
	at := s.now()
	signature, err := s.signers.sign(d.EventID, at, d.Body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "kyclink")
	req.Header.Set("Webhook-Id", d.EventID)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("Webhook-Signature", signature)
	return req, nil
}

func refusal(message string) delivery.Reply {
	return delivery.Reply{Reason: string(fault.Forbidden), Message: message, Final: true}
}
