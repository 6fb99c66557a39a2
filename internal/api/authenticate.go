package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/peerlimit"
)

// An address may send failedBurst requests without a valid key at once, and
// failedPerSecond on average. Further 401 responses are delayed, by at most
// maxFailedDelay; beyond that, the address gets 429 responses.
const (
	failedPerSecond = 1
	failedBurst     = 10
	maxFailedDelay  = 5 * time.Second
	// maxFailedWaiting is the number of responses that one process delays at a time.
	maxFailedWaiting = 256
)

// failedAuth slows down addresses that send requests without a valid key. It does not
// slow down requests with a valid key from the same address, which may be a proxy. Its
// memory is bounded.
type failedAuth struct {
	limits  *peerlimit.Limits
	waiting chan struct{}
	logs    *rate.Limiter

	mu       sync.Mutex
	unlogged int // failed requests since the last log line
}

func newFailedAuth(perSecond rate.Limit) *failedAuth {
	return &failedAuth{
		limits: peerlimit.New(perSecond, failedBurst), waiting: make(chan struct{}, maxFailedWaiting), logs: rate.NewLimiter(1, failedBurst),
	}
}

// refuse returns the response to a request without a valid key, after a delay if its
// address has sent too many.
func (a *API) refuse(c *call, why *apikey.RefusedError, detail string) error {
	if a.Meter != nil {
		a.Meter.Refused(string(why.Reason))
	}
	peer, _ := netip.ParseAddrPort(c.r.RemoteAddr) // the zero address if it is not an IP address
	a.logRefused(c, why, peer.Addr())
	reservation := a.failedAuth.limits.Of(peer.Addr()).Reserve()
	delay := reservation.Delay()
	if delay == 0 {
		return unauthorized(detail)
	}
	p := newProblem(http.StatusTooManyRequests, rateLimitedReason, "Too many requests",
		"too many requests without a valid API key from this address; send a valid key, or try again later")
	p.retryAfter = maxFailedDelay
	if delay > maxFailedDelay {
		reservation.Cancel()
		return p
	}
	select {
	case a.failedAuth.waiting <- struct{}{}:
	default:
		reservation.Cancel()
		return p
	}
	defer func() { <-a.failedAuth.waiting }()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.draining:
	case <-c.r.Context().Done():
	}
	return unauthorized(detail)
}

// logRefused logs failed requests at a limited rate, because anyone can send them.
func (a *API) logRefused(c *call, why *apikey.RefusedError, from netip.Addr) {
	f := a.failedAuth
	f.mu.Lock()
	defer f.mu.Unlock()
	c.unlogged = true
	if !f.logs.Allow() {
		f.unlogged++
		return
	}
	a.Log.Warn("request without a valid API key", zap.String("reason", string(why.Reason)), zap.Stringer("address", from),
		zap.String("key_id", why.ID), zap.String("method", method(c.r.Method)), zap.String("request_id", c.id), zap.Int("not_logged_before", f.unlogged))
	f.unlogged = 0
}

// authenticate verifies the API key of a request and applies its rate limit.
func (a *API) authenticate(c *call) error {
	scheme, presented, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if presented = strings.TrimSpace(presented); !strings.EqualFold(scheme, "Bearer") || presented == "" {
		return a.refuse(c, &apikey.RefusedError{Reason: apikey.Missing}, "send an API key as Authorization: Bearer KEY; kyclink keys create creates one")
	}
	key, err := a.verify(c, presented)
	switch {
	case errors.Is(err, apikey.ErrUnknown):
		why, ok := errors.AsType[*apikey.RefusedError](err)
		if !ok {
			why = &apikey.RefusedError{Reason: apikey.Unknown}
		}
		return a.refuse(c, why, err.Error())
	case err != nil:
		return unavailable(err)
	}
	c.key, c.presented = key, presented
	if !a.limits.allow(key.ID) {
		p := newProblem(http.StatusTooManyRequests, rateLimitedReason, "Too many requests",
			fmt.Sprintf("the limit of key %q is %g requests per second", key.Name, a.PerSecond))
		p.retryAfter = time.Second
		return p
	}
	return nil
}
